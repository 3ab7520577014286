"""An event loop that the app's modules have taken, or made, before the adapter is made: requests run on that one."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from .events import function_url
from .runtime_api import FUNCTIONS, function

BOTH = pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
HOW = [
    "asked for",
    "asked for, of another policy",
    "set",
    "set, uvloop's",
    "set, and closed later",
    "of a runner",
    "closed",
    "of asyncio.run",
    "running",
    "running, of asyncio.run",
]


@pytest.mark.parametrize(
    ("handler", "how"), [*(("handler", how) for how in HOW), ("streamed", "set"), ("second", "running")]
)
@BOTH
async def test_a_pool_that_was_made_at_import_works(client: str, how: str, handler: str) -> None:
    async with function(f"loops.{handler}", client=client, env={"HOW": how}) as running:
        for _ in range(2):
            assert b"row" in (await running.api.run(function_url())).raw
        assert (await running.api.run(function_url())).events[-1] == "next"
    assert "[ERROR]" not in running.output
    assert "Warning" not in running.output


async def test_a_pool_works_for_a_handler_without_an_adapter() -> None:
    async with function("loops.asynchronous", client="adapter", env={"HOW": "set"}) as running:
        assert json.loads((await running.api.run({})).result or b"") == "row"


class Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"echo: " + request)


@BOTH
async def test_a_grpc_channel_that_was_made_at_import_works(client: str) -> None:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        async with function("grpc_channel.handler", client=client, env={"UPSTREAM": f"127.0.0.1:{port}"}) as running:
            for _ in range(2):
                assert (await running.api.run(function_url())).body == b'"echo: hello"'
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("how", HOW)
def test_a_pool_works_outside_lambda(how: str) -> None:
    script = (
        f"import loops\nfor _ in range(2):\n    print(loops.handler({function_url()!r}, None)['body'])\n"
        "print(loops.streamed({}, None))"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        command,
        cwd=FUNCTIONS,
        env={**os.environ, "PYTHONPATH": str(FUNCTIONS.parents[1]), "HOW": how},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ['"row"', '"row"', "row"], done.stderr
