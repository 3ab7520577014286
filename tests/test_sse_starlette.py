"""sse-starlette polls for its server's end in a task without one, started by the first reply of an environment."""

from .events import function_url
from .runtime_api import function

RESPONSE = ["open", "prelude", "chunk", "chunk", "close"]


async def test_endless_tasks_are_waited_for_once() -> None:
    async with function("event_source.handler") as running:
        for path in ("/events", "/events", "/polls", "/polls", "/events"):
            assert (await running.api.run(function_url(path))).events == [*RESPONSE, "next"]
        # Tasks of another kind are waited for as ever.
        assert (await running.api.run_held(function_url("/work"), "work")).events == [*RESPONSE, "work", "next"]
    # The library's watcher is known, and not waited for at all.
    assert "_shutdown_watcher" not in running.output and running.output.count("Task poll") == 1
    assert running.output.count("WARNING") == 1 and "ERROR" not in running.output
