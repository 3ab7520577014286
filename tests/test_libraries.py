"""Tasks that libraries start in a request for the life of the process: nobody waits for them, and they work on."""

import asyncio
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from adapter.watchers import WATCHERS

from .events import function_url
from .runtime_api import Function, Invoked, function
from .test_mcp import HEADERS, LIST, posted
from .test_sqlalchemy import OTHERS, POSTGRES, postgres, watching

LIBRARIES = "sse_starlette", "psycopg_pool", "aiojobs", "mcp"


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    if POSTGRES is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres() as folder:
        yield folder


async def ended_with_its_response(running: Function, event: Any) -> Invoked:
    """The invocation. Held back to its deadline or to the cap, it would go on for 2 seconds or more."""
    invoked = await running.api.invoke(event)
    await invoked.closed.wait()
    async with asyncio.timeout(1.5):
        await invoked.finished.wait()
    return invoked


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("seconds", [3, 6, 8, 30])
async def test_an_invocation_ends_with_its_response(client: str, seconds: int, folder: str) -> None:
    database = f"postgresql://app@/postgres?host={folder}"
    async with function("libraries.handler", client=client, env={"DATABASE": database}) as running:
        running.api.timeout = seconds
        for path, body in (("/events", b"data: one\r\n\r\n"), ("/query", b"42"), ("/job", b'"spawned"')):
            for _ in range(5):
                assert body in (await ended_with_its_response(running, function_url(path))).body
        async with watching(f"postgresql+asyncpg://app@/postgres?host={folder}") as connection:
            assert await connection.fetchval(f"select count(pg_terminate_backend(pid, 5000)) {OTHERS}") == 1
        assert (await running.api.run(function_url("/query"))).body == b"42"  # by a connection that the pool has made
    assert running.api.log.count("job") == 5
    assert "WARNING" not in running.output and "ERROR" not in running.output


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("seconds", [3, 6, 8, 30])
async def test_a_reply_of_an_mcp_server_ends_its_invocation(client: str, seconds: int) -> None:
    async with function("mcp_server.handler", client=client) as running:
        running.api.timeout = seconds
        for _ in range(5):
            assert b"climb" in (await ended_with_its_response(running, posted(LIST, HEADERS))).body
    assert "WARNING" not in running.output and "ERROR" not in running.output


@pytest.mark.parametrize(("module", "name"), sorted(WATCHERS))
def test_the_libraries_have_these_tasks(module: str, name: str) -> None:
    if module.partition(".")[0] not in LIBRARIES:
        pytest.skip(f"{module} is not installed for the tests")
    thing: Any = importlib.import_module(module)
    for part in name.partition(".<locals>.")[0].split("."):
        thing = getattr(thing, part, None)
    if thing is None:
        pytest.skip(f"{module} has no {name} in this version")
    assert inspect.iscoroutinefunction(thing)
