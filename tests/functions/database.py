"""SQLAlchemy's asyncio extension on a real database, with a session as a dependency and one in a background task."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI
from sqlalchemy import String, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import QueuePool

from adapter import StreamingAdapter
from record import record


class Base(DeclarativeBase):
    pass


class Report(Base):
    __tablename__ = "reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(20))


def connect() -> AsyncEngine:
    # Two connections, and no third: a leaked one is missed soon.
    return create_async_engine(os.environ["DATABASE"], pool_size=2, max_overflow=0, pool_timeout=2)


new_session = async_sessionmaker[AsyncSession](expire_on_commit=False)
if os.environ["ENGINE"] == "import":
    new_session.configure(bind=connect())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    if os.environ["ENGINE"] == "lifespan":
        new_session.configure(bind=connect())
    async with engine().begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


def engine() -> AsyncEngine:
    bound = new_session.kw["bind"]
    assert isinstance(bound, AsyncEngine)
    return bound


def checked_out() -> int:
    pool = engine().pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


app = FastAPI(lifespan=lifespan)


closed: list[asyncio.Event] = []  # to be set when a request's session is


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session
    record("session-closed")
    for event in closed:
        event.set()


async def late_commit() -> AsyncIterator[AsyncSession]:
    async with new_session.begin() as session:
        yield session


PerRequest = Annotated[AsyncSession, Depends(session)]
PerFunction = Annotated[AsyncSession, Depends(session, scope="function")]


async def finish(report: int) -> None:
    async with new_session.begin() as session:
        stored = await session.get_one(Report, report)
        stored.state = "made"
    record("background")


async def finish_with(session: AsyncSession, report: int) -> None:
    stored = await session.get_one(Report, report)
    stored.state = "made"
    await session.commit()
    record("background")


async def add(session: AsyncSession) -> int:
    report = Report(state="asked for")
    session.add(report)
    await session.commit()
    return report.id


@app.post("/own")
async def own_session(session: PerFunction, background: BackgroundTasks) -> int:
    """Closed before the response; the background task has a session of its own."""
    report = await add(session)
    background.add_task(finish, report)
    return report


@app.post("/two")
async def two_sessions(session: PerRequest, background: BackgroundTasks) -> int:
    """The request's is open, and has a connection if it has begun a transaction, until the background task is done."""
    report = await add(session)
    await session.execute(select(1))  # which begins another transaction
    background.add_task(finish, report)
    return report


@app.post("/shared")
async def shared_session(session: PerRequest, background: BackgroundTasks) -> int:
    """The background task uses the request's."""
    report = await add(session)
    background.add_task(finish_with, session, report)
    return report


@app.post("/fails")
async def fails(session: PerRequest, background: BackgroundTasks) -> int:
    """Its background task finds no such report."""
    background.add_task(finish_with, session, -1)
    return await add(session)


@app.post("/late-commit")
async def late(session: Annotated[AsyncSession, Depends(late_commit)], background: BackgroundTasks) -> str:
    """Commits when the background task is done, which fails."""
    session.add(Report(state="made"))
    background.add_task(finish, -1)
    return "made"


started: list[asyncio.Task[None]] = []


async def finish_after(event: asyncio.Event, report: int) -> None:
    await event.wait()
    await finish(report)


@app.post("/task")
async def task(session: PerRequest) -> int:
    """The task is still at work when the session of its request is closed: else it would wait for ever."""
    report = await add(session)
    closed[:] = [asyncio.Event()]
    started[:] = [asyncio.create_task(finish_after(closed[0], report))]
    return report


@app.get("/made")
async def made(session: PerRequest) -> int:
    return (await session.scalars(select(func.count()).where(Report.state == "made"))).one()


adapter = StreamingAdapter(app)


def handler(event: Any, context: Any) -> Any:
    result = adapter(event, context)
    record(f"{checked_out()}-checked-out")
    return result
