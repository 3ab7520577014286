"""SQLAlchemy's asyncio extension on a real database: one engine, one loop, many invocations, nothing leaked."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import trustme

from .events import function_url
from .runtime_api import function
from .snippet import snippet

RESPONSE = ["open", "prelude", "chunk", "close"]
# Debian has its programs where no PATH has them.
POSTGRES = shutil.which("postgres") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), None)


@contextlib.contextmanager
def postgres(*settings: str, certificate: trustme.LeafCert | None = None) -> Iterator[str]:
    """A cluster of this test's own, on a Unix socket; the folder of that socket."""
    assert POSTGRES is not None
    programs = Path(POSTGRES).resolve().parent
    # PostgreSQL does not run as root; and pytest's own folders are root's alone.
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = f"{folder}/data"
        options = ["--no-sync", "--no-locale", "--auth=trust", "--username=app", "--encoding=UTF8"]
        subprocess.run([programs / "initdb", *options, data], cwd=folder, user=user, check=True, capture_output=True)
        command = [str(programs / "postgres"), "-D", data]
        if certificate is not None:
            for name, blob in (("crt", certificate.cert_chain_pems[0]), ("key", certificate.private_key_pem)):
                path = Path(f"{data}/server.{name}")
                blob.write_to_path(path)
                path.chmod(0o600)
                if user is not None:
                    shutil.chown(path, user)
            settings += ("ssl=on",)
        for setting in ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", *settings):
            command += ["-c", setting]
        with subprocess.Popen(command, cwd=folder, user=user, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                assert any("ready to accept connections" in line for line in server.stderr)
                yield folder
            finally:
                server.send_signal(signal.SIGINT)  # a fast shutdown
                server.communicate()


OTHERS = "from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"


@contextlib.asynccontextmanager
async def watching(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(user="app", database="postgres", host=database.partition("host=")[2])
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def socket_folder() -> Iterator[str]:
    if POSTGRES is None:
        pytest.skip("there is no PostgreSQL here")
    with postgres() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/reports.db"
    folder: str = request.getfixturevalue("socket_folder")
    return f"postgresql+asyncpg://app@/postgres?host={folder}"


PATHS = ["/own", "/two", "/shared", "/fails", "/task"]


@pytest.mark.parametrize(
    ("database", "engine"), [("sqlite", "lifespan"), ("postgresql", "import")], indirect=["database"]
)
async def test_one_engine_for_200_invocations(database: str, engine: str) -> None:
    async with function("database.handler", env={"DATABASE": database, "ENGINE": engine}) as running:
        before = int((await running.api.run(function_url("/made"))).body)
        for number in range(200):
            path = PATHS[number % len(PATHS)]
            invoked = await running.api.run(function_url(path, method="POST"))
            assert invoked.prelude["statusCode"] == 200
            assert invoked.events[-2:] == ["0-checked-out", "next"], path
            assert ("background" in invoked.events) == (path != "/fails")
        assert int((await running.api.run(function_url("/made"))).body) - before == 160
        if database.startswith("postgresql"):
            async with watching(database) as connection:
                assert 1 <= await connection.fetchval(f"select count(*) {OTHERS}") <= 2
    assert "different loop" not in running.output
    assert running.output.count("NoResultFound: ") == 40  # the failures that were meant to be, and no others
    assert running.output.count("[ERROR]") == 40


async def test_when_a_session_of_a_dependency_ends(database: str) -> None:
    """As docs/background.md says: FastAPI has changed it twice."""
    async with function("database.handler", env={"DATABASE": database, "ENGINE": "lifespan"}) as running:
        before = int((await running.api.run(function_url("/made"))).body)
        for path, order in {
            "/own": ["session-closed", *RESPONSE, "background"],
            "/two": [*RESPONSE, "background", "session-closed"],
            "/task": [*RESPONSE, "session-closed", "background"],
        }.items():
            invoked = await running.api.run(function_url(path, method="POST"))
            assert invoked.events == [*order, "0-checked-out", "next"]
        # Told 200, and rolled back: the commit was to come after a background task that failed.
        invoked = await running.api.run(function_url("/late-commit", method="POST"))
        assert invoked.prelude["statusCode"] == 200
        assert int((await running.api.run(function_url("/made"))).body) - before == 3


async def test_the_docs(database: str, tmp_path: Path) -> None:
    env = {**snippet("sqlalchemy", tmp_path, "aiosqlite"), "DATABASE_URL": database}
    async with function("main.handler", env=env) as running:
        for _ in range(2):
            invoked = await running.api.run(function_url())
            assert invoked.body == b'"hello"'
            if database.startswith("postgresql"):
                async with watching(database) as connection:  # which ends them, as a pause may
                    assert await connection.fetchval(f"select count(pg_terminate_backend(pid, 5000)) {OTHERS}") == 1
    assert "[ERROR]" not in running.output
