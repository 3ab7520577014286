"""What becomes of the garbage collector, in the init phase and after it."""

import gc
import importlib
import os
from typing import Any

before = gc.get_threshold()
if "BEFORE" in os.environ:
    gc.set_threshold(int(os.environ["BEFORE"]))

streamify: Any = importlib.import_module("adapter").streamify
meanwhile = gc.get_threshold()
if "OWN" in os.environ:
    gc.set_threshold(int(os.environ["OWN"]))


def seen() -> dict[str, Any]:
    return {
        "before": before,
        "meanwhile": meanwhile,
        "after": gc.get_threshold(),
        "is enabled": gc.isenabled(),
        "frozen": gc.get_freeze_count(),
    }


def plain(event: Any, context: Any) -> Any:
    """Makes no adapter."""
    return seen()


async def streamed(event: Any, response_stream: Any, context: Any) -> Any:
    return seen()


if os.environ.get("_HANDLER") == "garbage.handler":
    handler = streamify(streamed)
    handler = streamify(streamed)  # the second one changes nothing
