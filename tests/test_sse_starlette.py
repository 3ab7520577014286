"""sse-starlette polls for its server's end in a task without one, started by the first reply of an environment."""

from .events import function_url
from .runtime_api import function

RESPONSE = ["open", "prelude", "chunk", "chunk", "close"]


async def test_an_endless_task_is_waited_for_once() -> None:
    async with function("event_source.handler") as running:
        for _ in range(3):
            assert (await running.api.run(function_url("/events"))).events == [*RESPONSE, "next"]
        # Tasks of another kind are waited for as ever.
        assert (await running.api.run_held(function_url("/work"), "work")).events == [*RESPONSE, "work", "next"]
    assert running.output.count("WARNING") == running.output.count("_shutdown_watcher") == 1, running.output
