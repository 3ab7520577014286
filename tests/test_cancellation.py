"""Cancelled at each of its suspensions, an invocation ends, is answered at most once, and leaves the next one whole."""

import itertools
from typing import Any

import pytest

from .events import function_url
from .runtime_api import Invoked, function

EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "json": ("handler", function_url("/", method="POST", body=b"{}")),
    "stream": ("handler", function_url("/stream")),
    "failure": ("handler", function_url("/fail")),
    "buffered": ("buffered", function_url("/stream")),
    "streamify": ("streamed", {}),
    "streamify in a thread": ("in_thread", {}),
}


def is_answered_once(invoked: Invoked) -> bool:
    posts = [entry for entry in invoked.events if entry in ("open", "response", "error")]
    return len(posts) == 1


@pytest.mark.parametrize("how", ["cancel", "expire"])
@pytest.mark.parametrize("connection", ["kept", "new"])
@pytest.mark.parametrize("what", EVENTS)
async def test_at_every_suspension(what: str, connection: str, how: str) -> None:
    handler, event = EVENTS[what]
    async with function(f"cancelled.{handler}") as running:
        running.api.close_after_reply = connection == "new"
        whole = await running.api.run(event)
        for step in itertools.count(1):
            cut = await running.api.run({**event, "at": {how: step}})
            assert is_answered_once(cut), (step, cut.events)
            after = await running.api.run(event)
            assert (after.events, after.raw, after.result) == (whole.events, whole.raw, whole.result), step
            if how not in cut.events:
                break
        assert cut.events == whole.events  # it has no more suspensions than that
        assert step > 1
    assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]
