"""Handlers that are not async find what they would find under awslambdaric, also where the loop runs beside them."""

import asyncio
import concurrent.futures
import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from adapter import AppError, StreamingAdapter, wait_until
from adapter.connection import Connection
from adapter.exceptions import RuntimeApiError
from adapter.extension import register
from adapter.invocation import Invocation, current_invocation, enter, leave
from adapter.work import Rules, Work

from .events import function_url
from .runtime_api import Function, ManagedRuntimeAPI, function

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
MANY = {"AWS_LAMBDA_MAX_CONCURRENCY": "40", "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}


@BOTH
async def test_what_was_set_at_import_is_set(client: str) -> None:
    async with function("threads.handler", client=client) as running:
        for _ in range(2):
            invoked = await running.api.run(function_url("/context"))
            assert json.loads(invoked.body) == {"precision": 50, "bound": "at import"}


@BOTH
@pytest.mark.parametrize("handler", ["threads.with_a_loop", "threads.events"])
async def test_a_handler_with_a_loop_of_its_own(client: str, handler: str) -> None:
    async with function(handler, client=client) as running:
        for _ in range(2):
            invoked = await running.api.run({"Records": []})
            assert json.loads(invoked.result or b"") == "from a loop of its own"
            # The hook's is on the loop that runs by then.
            assert ("later" in invoked.events) == (handler == "threads.events")


@BOTH
async def test_mangum(client: str) -> None:
    async with function("threads.mangum", client=client) as running:
        for _ in range(2):
            invoked = await running.api.run(function_url("/context"))
            assert json.loads(invoked.result or b"")["statusCode"] == 200


@BOTH
async def test_an_adapter_that_is_called_in_a_thread(client: str) -> None:
    async with function("threads.in_a_thread", client=client) as running:
        for _ in range(2):
            invoked = await running.api.run(function_url("/context"))
            assert invoked.events == ["open", "prelude", "chunk", "close", "next"]


class TestWorkerThreads:
    """Those of anyio, in which `def` routes run."""

    @staticmethod
    async def ask(running: Function, *paths: str) -> list[Any]:
        return [json.loads((await running.api.run(function_url(path))).body) for path in paths]

    @BOTH
    async def test_they_are_kept_with_what_is_local_to_them(self, client: str) -> None:
        async with function("threads.handler", client=client) as running:
            assert await self.ask(running, "/count", "/count", "/count") == [1, 2, 3]

    async def test_they_outlast_the_cancellation_of_all_tasks(self) -> None:
        async with function("threads.off") as running:
            for count in (1, 2, 3):
                was, cancelled = await self.ask(running, "/count", "/cancels-all")
                assert was == count
                assert "adapter.worker_threads" in cancelled

    @BOTH
    async def test_those_of_a_burst_are_not_kept_for_ever(self, client: str) -> None:
        async with function("threads.handler", client=client, env={"MAX_IDLE_TIME": "0"}) as running:
            (most,) = await self.ask(running, "/burst")
            assert most > 40
            while (await self.ask(running, "/threads"))[0] > 10:  # they end by themselves
                pass

    @BOTH
    async def test_a_process_can_be_forked(self, client: str) -> None:
        async with function("threads.handler", client=client) as running:
            assert await self.ask(running, "/count", "/forks", "/count") == [1, 0, 2]
            assert "forked" in running.api.log

    async def test_a_pool_of_processes_is_kept_and_ends_with_the_function(self, tmp_path: Path) -> None:
        # awslambdaric's own main module cannot be imported from its path, as such a pool does; Lambda's is like this.
        main = tmp_path / "main.py"
        main.write_text("import sys\nfrom awslambdaric.__main__ import main\nif __name__ == '__main__': main(sys.argv)")
        command = [sys.executable, str(main), "threads.without_drain"]
        async with function("threads.without_drain", command=command) as running:
            first, second = await self.ask(running, "/process", "/process")
            assert first == second
            assert first[0] == running.process.pid != first[1]
        async with asyncio.timeout(20):
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.kill(first[1], 0)
                    await asyncio.sleep(0.01)

    async def test_they_end_with_their_invocation_in_a_python_that_cannot_keep_them(self) -> None:
        async with function("threads.handler", env={"WITHOUT": "_register_atexit"}) as running:
            assert await self.ask(running, "/count", "/count") == [1, 1]

    def test_none_is_kept_outside_lambda(self) -> None:
        app, local = FastAPI(), threading.local()

        @app.get("/count")
        def count() -> int:
            local.count = getattr(local, "count", 0) + 1
            return int(local.count)

        handler = StreamingAdapter(app, lifespan="off")
        before = set(threading.enumerate())
        for _ in range(2):
            assert handler(function_url("/count"), {})["body"] == "1"
        deadline = time.monotonic() + 20
        while set(threading.enumerate()) - before and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not set(threading.enumerate()) - before


@pytest.mark.parametrize("handler", ["together", "meeting"])
async def test_as_many_threads_as_invocations(handler: str) -> None:
    async with function(f"threads.{handler}", client="adapter", api=ManagedRuntimeAPI(), env=MANY) as running:
        invoked = await asyncio.gather(*(running.api.run({"Records": []}) for _ in range(40)))
    assert [one.raw or one.result for one in invoked] == [b"all" if handler == "together" else b'"all"'] * 40


async def test_a_source_knows_its_invocation() -> None:
    async with function("threads.piping", client="adapter", api=ManagedRuntimeAPI(), env=MANY) as running:
        invoked = await running.api.run({"Records": []})
    assert invoked.raw.decode() == invoked.request_id


def test_the_latest_invocation_is_the_one_that_goes_on() -> None:
    outer, inner = Invocation("outer"), Invocation("inner")
    first = enter(outer)
    leave(enter(inner))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_invocation).result() is outer
    leave(first)


async def test_what_only_looks_like_a_future(monkeypatch: pytest.MonkeyPatch) -> None:
    class Duck:
        def add_done_callback(self, callback: Any) -> None: ...

        def result(self) -> None: ...

    invocation = Invocation("r")
    token = enter(invocation)
    Work(invocation, Rules())
    try:
        with pytest.raises(AppError, match=r"wait_until takes an awaitable or a concurrent\.futures\.Future, not <"):
            wait_until(Duck())  # type: ignore[arg-type]
    finally:
        leave(token)


async def test_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    with pytest.raises(RuntimeApiError, match="Too many open files"):
        await Connection.open("127.0.0.1:1", memoryview(bytearray(1)))
    with pytest.raises(RuntimeApiError, match="Too many open files"):
        register("127.0.0.1:1")
