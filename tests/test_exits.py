"""What leaves the event loop is logged, and ends the process at once; beside other invocations, its own one."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .events import function_url
from .runtime_api import FUNCTIONS, ManagedRuntimeAPI, RuntimeAPI, function

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
FAST = pytest.mark.parametrize("fast", [True, False], ids=["uvloop", "asyncio"])
PLACE = ("how", "place", "handler")
PLACES = [
    *(("exit", place, "handler") for place in ("thread", "after-a-thread", "background", "task", "generator")),
    *(("interrupt", place, "handler") for place in ("thread", "task")),
    *((how, "thread", "with_middleware") for how in ("exit", "interrupt")),
]
OTHER_PLACES = [
    *(("exit", place, "handler") for place in ("consumer", "beside-a-thread")),
    *(("stop", place, "handler") for place in ("thread", "background", "generator", "consumer")),
    ("stop", "thread", "with_middleware"),
]
STATUSES = {"exit": 3, "interrupt": 130, "stop": 1}
NAMES = {"exit": "SystemExit", "interrupt": "KeyboardInterrupt", "stop": "RuntimeError"}
MANY = {"AWS_LAMBDA_MAX_CONCURRENCY": "4", "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}
ROOT = FUNCTIONS.parents[1]


def environment(fast: bool = True, **variables: str) -> dict[str, str]:
    slow = "" if fast else f"{FUNCTIONS / 'without_fast'}:"
    return {"PYTHONPATH": f"{slow}{FUNCTIONS}:{ROOT}", **variables}


async def recorded(api: RuntimeAPI, event: str) -> None:
    async with asyncio.timeout(20):
        while event not in api.log:
            await asyncio.sleep(0.005)


def assert_logged_once(output: str, how: str) -> None:
    (line,) = re.findall(r"The process ends with status (\d+): (\w+)", output)
    assert line == (str(STATUSES[how]), NAMES[how]), output
    assert len(re.findall(rf"^{NAMES[how]}\b", output, re.MULTILINE)) == 1, output
    assert "never retrieved" not in output


@BOTH
@pytest.mark.parametrize(PLACE, PLACES + OTHER_PLACES)
async def test_the_process_ends_at_once(client: str, how: str, place: str, handler: str) -> None:
    async with function(f"exits.{handler}", client=client, env={"HOW": how}) as running:
        await running.api.run(function_url("/fine"))
        await running.api.invoke(function_url(f"/{place}"))
        assert await running.exit() == STATUSES[how]
    assert_logged_once(running.output, how)


@BOTH
@pytest.mark.parametrize("how", ["exit", "interrupt"])
@pytest.mark.parametrize("handler", ["events", "decorated_events", "streamed", "streamed_in_a_thread", "generated"])
async def test_the_process_ends_with_other_handlers(client: str, how: str, handler: str) -> None:
    async with function(f"exits.{handler}", client=client, env={"HOW": how}) as running:
        await running.api.invoke({"Records": []})
        assert await running.exit() == STATUSES[how]
    assert_logged_once(running.output, how)


@BOTH
@pytest.mark.parametrize("how", ["exit", "stop"])
async def test_the_process_ends_in_startup(client: str, how: str) -> None:
    async with function("exits.handler", client=client, env={"HOW": how, "AT": "startup"}) as running:
        assert await running.exit(20) == STATUSES[how]
    assert f"The process ends with status {STATUSES[how]}" in running.output
    assert "next" not in running.api.log


async def test_a_loop_that_cannot_run_any_more_ends_the_process() -> None:
    async with function("exits.handler") as running:
        await running.api.run(function_url("/fine"))
        await running.api.invoke(function_url("/closes"))
        assert await running.exit() == 1
    assert "The process ends with status 1: OSError" in running.output


@BOTH
async def test_an_interrupt_ends_the_process(client: str) -> None:
    async with function("exits.handler", client=client) as running:
        await running.api.invoke(function_url("/waits"))
        await recorded(running.api, "waiting")
        running.process.send_signal(signal.SIGINT)
        assert await running.exit() == 130
    assert running.output.count("The process ends with status 130") == 1


@pytest.mark.parametrize("path", ["/waits", "/blocks"])
@pytest.mark.parametrize("env", [{}, MANY], ids=["alone", "concurrent"])
@FAST
async def test_an_interrupt_ends_the_asyncio_runtime(path: str, env: dict[str, str], fast: bool) -> None:
    api = ManagedRuntimeAPI() if env else RuntimeAPI()
    async with function("exits.handler", client="adapter", api=api, env=environment(fast) | env) as running:
        await api.invoke(function_url(path))
        await recorded(api, "waiting")
        running.process.send_signal(signal.SIGINT)
        assert await running.exit() == 130


@FAST
@pytest.mark.parametrize("env", [{}, MANY], ids=["alone", "concurrent"])
async def test_an_interrupt_between_invocations_ends_the_asyncio_runtime(env: dict[str, str], fast: bool) -> None:
    api = ManagedRuntimeAPI() if env else RuntimeAPI()
    async with function("exits.handler", client="adapter", api=api, env=environment(fast) | env) as running:
        await recorded(api, "next")
        running.process.send_signal(signal.SIGINT)
        assert await running.exit() == 130
    assert running.output.count("The process ends with status 130: SIGINT") == 1


@FAST
async def test_the_apps_own_handler_of_interrupts_is_kept(fast: bool) -> None:
    async with function("exits.handler", client="adapter", env=environment(fast, OWN="1")) as running:
        await recorded(running.api, "next")
        running.process.send_signal(signal.SIGINT)
        await recorded(running.api, "own")
        assert (await running.api.run(function_url("/fine"))).body == b'"fine"'


@BOTH
async def test_atexit_functions_have_their_time(client: str) -> None:
    async with function("exits.handler", client=client, env={"GOODBYE": "1"}) as running:
        await running.api.invoke(function_url("/thread"))
        await recorded(running.api, "goodbye")
        assert await running.exit() == 3


class TestBesideOthers:
    """Under the asyncio runtime with ``--concurrency``."""

    @FAST
    @pytest.mark.parametrize(PLACE, PLACES)
    async def test_an_invocation_ends_by_itself(self, how: str, place: str, handler: str, fast: bool) -> None:
        api = ManagedRuntimeAPI()
        env = environment(fast, HOW=how, **MANY)
        async with function(f"exits.{handler}", client="adapter", api=api, env=env) as running:
            api.held["goes on"] = asyncio.Event()
            other = await api.invoke(function_url("/goes-on"))
            await recorded(api, "begun")
            invoked = await api.run(function_url(f"/{place}"))
            assert invoked.prelude["statusCode"] == (200 if place in ("background", "generator") else 500)
            if place == "generator":
                assert invoked.failure[0] == f"Function.{NAMES[how]}"
            assert not other.finished.is_set()
            api.held["goes on"].set()
            await asyncio.wait_for(other.finished.wait(), 20)
            assert other.body == b'"went on"'
            assert (await api.run(function_url("/fine"))).body == b'"fine"'
        assert re.search(rf"failed in RequestId '{invoked.request_id}'", running.output)
        assert f"\n{NAMES[how]}" in running.output or f"| {NAMES[how]}" in running.output
        assert "The process ends" not in running.output

    @FAST
    @pytest.mark.parametrize(
        "handler", ["plain", "events", "decorated_events", "streamed", "streamed_in_a_thread", "generated"]
    )
    async def test_an_invocation_of_another_handler_ends_by_itself(self, handler: str, fast: bool) -> None:
        api = ManagedRuntimeAPI()
        async with function(f"exits.{handler}", client="adapter", api=api, env=environment(fast, **MANY)) as running:
            for _ in range(2):
                invoked = await api.run({"Records": []})
                if "streamed" in handler or handler == "generated":
                    assert (invoked.raw, invoked.failure[0]) == (b"part", "Function.SystemExit")
                else:
                    assert invoked.error is not None and b"the handler has called sys.exit(3)" in invoked.error
            async with asyncio.timeout(20):
                while api.waiting < 4:
                    await asyncio.sleep(0.005)
        assert running.output.count("the handler has called sys.exit(3)") == 2

    @FAST
    async def test_an_app_cannot_stop_the_loop(self, fast: bool) -> None:
        api = ManagedRuntimeAPI()
        env = environment(fast, HOW="stop", **MANY)
        async with function("exits.handler", client="adapter", api=api, env=env) as running:
            api.held["goes on"] = asyncio.Event()
            other = await api.invoke(function_url("/goes-on"))
            await recorded(api, "begun")
            await api.run(function_url("/thread"))
            api.held["goes on"].set()
            await asyncio.wait_for(other.finished.wait(), 20)
            assert other.body == b'"went on"'
        assert running.output.count("RuntimeError: loop.stop() would stop the event loop of all invocations") == 1

    @FAST
    @pytest.mark.parametrize("how", STATUSES)
    async def test_what_is_no_invocations_ends_the_process(self, how: str, fast: bool) -> None:
        api = ManagedRuntimeAPI()
        env = environment(fast, HOW=how, **MANY)
        async with function("exits.handler", client="adapter", api=api, env=env) as running:
            await api.run(function_url("/fine"))
            await api.invoke(function_url("/consumer"))
            assert await running.exit() == STATUSES[how]
        assert_logged_once(running.output, how)


class TestInProcess:
    """Outside Lambda what leaves the loop is the caller's, and no thread keeps Python from its end."""

    @pytest.mark.parametrize(PLACE, [*PLACES, *(place for place in OTHER_PLACES if place[1] != "beside-a-thread")])
    def test_the_caller_gets_it(self, tmp_path: Path, how: str, place: str, handler: str) -> None:
        fine = "print(handler(function_url('/fine'), {})['body'])"
        lines = [
            fine,
            "try:",
            f"    {handler}(function_url('/{place}'), {{}})",
            "except BaseException as exception:",
            "    print('raised', type(exception).__name__)",
        ]
        assert self.run(tmp_path, how, lines) == f'"fine"\nraised {NAMES[how]}\n'
        assert self.run(tmp_path, how, [*lines, fine]) == f'"fine"\nraised {NAMES[how]}\n"fine"\n'

    def test_a_thread_that_is_at_work_is_waited_for(self, tmp_path: Path) -> None:
        lines = [
            "import os, signal, threading",
            "def interrupt(event):",
            "    os.kill(os.getpid(), signal.SIGINT)",
            "    loops[0].call_soon_threadsafe(int)  # Python handles a signal when the main thread runs",
            "exits.record = interrupt",
            "try:",
            "    handler(function_url('/waits'), {})",
            "except KeyboardInterrupt:",
            "    threading.Timer(0.2, released.set).start()",
            "    print('raised')",
        ]
        assert self.run(tmp_path, "exit", lines) == "raised\n"

    def run(self, tmp_path: Path, how: str, lines: list[str]) -> str:
        program = tmp_path / "program.py"
        imports = ["import exits", "from exits import *", "from exits import released, handler, with_middleware"]
        program.write_text("\n".join([*imports, "from tests.events import function_url", *lines]) + "\n")
        variables = {**os.environ, **environment(HOW=how)}
        done = subprocess.run([sys.executable, str(program)], env=variables, capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout
