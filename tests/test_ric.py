"""The seam under awslambdaric, with stand-ins for its native client."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from adapter import environment
from adapter.exceptions import RuntimeApiError, SeamError
from adapter.invocation import Invocation
from adapter.ric import RuntimeClient, Seam

from .events import function_url
from .runtime_api import FUNCTIONS, ManagedRuntimeAPI, function


class Native:
    """awslambdaric's native module, recording."""

    initialized = "native"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.headers: dict[str, str] = {
            "Lambda-Runtime-Aws-Request-Id": "request",
            "Lambda-Runtime-Invocation-Id": "attempt",
        }

    def next(self, *args: Any, **kwargs: Any) -> tuple[bytes, dict[str, str]]:
        return b"{}", self.headers

    def post_invocation_result(self, *args: Any, **kwargs: Any) -> str:
        self.calls.append(("result", args, kwargs))
        return "posted"

    def post_error(self, *args: Any, **kwargs: Any) -> str:
        self.calls.append(("error", args, kwargs))
        return "posted"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """awslambdaric, with the native client in place."""
    package = ModuleType("awslambdaric")
    package.__dict__["__version__"] = "9.9"
    module = ModuleType("awslambdaric.lambda_runtime_client")
    module.__dict__["runtime_client"] = Native()
    bootstrap = ModuleType("awslambdaric.bootstrap")
    bootstrap.__dict__["_GLOBAL_AWS_REQUEST_ID"] = None
    for one in (package, module, bootstrap):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    yield module


def ids(invocation: Invocation | None) -> tuple[str, str | None]:
    assert invocation is not None
    return invocation.request_id, invocation.invocation_id


def test_next_remembers_the_ids(module: Any) -> None:
    seam = Seam.install()
    assert module.runtime_client.next() == (b"{}", module.runtime_client.headers)
    assert ids(seam.invocation("request")) == ("request", "attempt")
    assert seam.invocation("other") is None
    assert seam.invocation(None) is None


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_invocation_id_is_none(module: Any, value: str | None) -> None:
    seam = Seam.install()
    module.runtime_client.headers["Lambda-Runtime-Invocation-Id"] = value
    module.runtime_client.next()
    assert ids(seam.invocation("request")) == ("request", None)


def test_posts_pass_as_they_are_until_the_invocation_is_answered(module: Any) -> None:
    native = module.runtime_client
    seam = Seam.install()
    client = module.runtime_client
    client.next()
    assert client.post_invocation_result("request", b"{}", "application/json", "attempt", new="argument") == "posted"
    assert client.post_error("request", "{}", "{}") == "posted"
    assert native.calls == [
        ("result", ("request", b"{}", "application/json", "attempt"), {"new": "argument"}),
        ("error", ("request", "{}", "{}"), {}),
    ]
    invocation = seam.invocation("request")
    assert invocation is not None
    invocation.answer()
    assert client.post_invocation_result("request", b"{}", "application/json", "attempt") is None
    assert client.post_error("request", "{}", "{}") is None
    assert client.post_invocation_result(invoke_id="request", data=b"{}") is None
    assert len(native.calls) == 2
    client.post_error("another", "{}", "{}")  # what is not about the answered one is not ours to hold back
    assert len(native.calls) == 3
    client.next()
    client.post_invocation_result("request", b"{}")
    assert len(native.calls) == 4


def test_before_the_first_event_posts_pass(module: Any) -> None:
    native = module.runtime_client
    Seam.install()
    module.runtime_client.post_error("request", "{}")
    assert native.calls == [("error", ("request", "{}"), {})]


def test_everything_else_is_the_native_clients(module: Any) -> None:
    Seam.install()
    assert module.runtime_client.initialized == "native"
    with pytest.raises(AttributeError):
        module.runtime_client.no_such_thing  # noqa: B018


def test_it_is_put_in_place_once(module: Any) -> None:
    Seam.install()
    client = module.runtime_client
    Seam.install()
    assert module.runtime_client is client
    assert isinstance(client, RuntimeClient)


def test_another_shape_fails_with_one_clear_sentence(module: Any) -> None:
    module.runtime_client = None
    with pytest.raises(SeamError) as caught:
        Seam.install()
    assert str(caught.value) == (
        "awslambdaric 9.9 has no next, post_invocation_result, post_error in lambda_runtime_client.runtime_client, "
        "where the streamed response takes the place of its own post: use a version from 2.2 to 4.2"
    )
    module.runtime_client = ModuleType("native")
    module.runtime_client.next = module.runtime_client.post_error = print
    with pytest.raises(SeamError, match="has no post_invocation_result in"):
        Seam.install()


@pytest.mark.parametrize("reason", ["No module named 'runtime_client'", "libcurl.so.4: cannot open shared object file"])
async def test_without_its_native_module_the_message_says_what_to_do(tmp_path: Path, reason: str) -> None:
    """As on a platform that awslambdaric has no wheel for. The asyncio runtime goes without it."""
    (tmp_path / "runtime_client.py").write_text(f"raise ImportError({reason!r})\n")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(FUNCTIONS), str(FUNCTIONS.parents[1])])}
    async with function("background.handler", env=env) as running:
        assert await running.exit(20) == 1
    message = running.api.init_error["errorMessage"]
    assert f"has no native module here ({reason})" in message
    assert "--runtime adapter" in message and "platform" in message
    assert "2.2 to 4.2" not in message
    async with function("background.handler", env=env, client="adapter") as running:
        assert (await running.api.run(function_url("/async"))).prelude["statusCode"] == 200


def test_an_event_that_came_another_way_fails_with_one_clear_sentence(module: Any) -> None:
    seam = Seam.install()
    with pytest.raises(SeamError, match="awslambdaric 9.9 did not fetch this event through"):
        seam.invocation("request")


def test_an_invocation_under_way_is_taken_over(module: Any) -> None:
    sys.modules["awslambdaric.bootstrap"].__dict__["_GLOBAL_AWS_REQUEST_ID"] = "first"
    assert ids(Seam.install().invocation("first")) == ("first", None)


async def test_there_is_nothing_to_stream_to_outside_lambda() -> None:
    home = environment.Environment()
    home.loop.close()
    with pytest.raises(RuntimeApiError, match="there is no Runtime API outside Lambda"):
        await home.stream(Invocation("request"))
    with pytest.raises(RuntimeApiError, match="there is no Runtime API outside Lambda"):
        home.buffered(Invocation("request"), lambda head, body: None, "alb")


class TestWorkersThatAreForkedAfterTheImport:
    """Here with the installed awslambdaric, in test_versions with those that fork so."""

    async def both_wait(self, api: ManagedRuntimeAPI) -> None:
        async with asyncio.timeout(30):
            while api.waiting < 2:
                await asyncio.sleep(0.01)

    async def ask_both(self, api: ManagedRuntimeAPI) -> list[list[int]]:
        await self.both_wait(api)
        async with asyncio.timeout(30):
            both = [await api.invoke(function_url("/")) for _ in range(2)]
            for invoked in both:
                await invoked.finished.wait()
        return [json.loads(invoked.body) for invoked in both]

    @pytest.mark.parametrize("another_way", ["", "1"])
    async def test_each_has_its_own_loop_and_startup(self, another_way: str) -> None:
        env = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", "FINDS_IT_ANOTHER_WAY": another_way}
        api = ManagedRuntimeAPI()
        async with function("workers.handler", command=(sys.executable, "forking.py"), api=api, env=env):
            await self.both_wait(api)
            # Where the runtime client does not look the handler up again, the first invocation starts up.
            assert len([entry for entry in api.log if entry.startswith("startup")]) == (0 if another_way else 2)
            for _ in range(3):
                answers = await self.ask_both(api)
                workers = {pid for pid, *_ in answers}
                assert len(workers) == 2
                assert all(pid == consumer != imported_in for pid, consumer, imported_in in answers)
        startups = [entry for entry in api.log if entry.startswith("startup")]
        assert sorted(startups) == sorted(f"startup-{pid}" for pid in workers)
