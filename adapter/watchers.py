"""Tasks that well-known libraries start in a request, and that live as long as the process: nobody waits for those.

By the module and the qualified name of the coroutine function. Only tasks that do no request's work belong here.
"""

from __future__ import annotations

import inspect
from typing import Any

WATCHERS = frozenset(
    {
        ("sse_starlette.sse", "_shutdown_watcher"),
    }
)


def is_watcher(coroutine: Any) -> bool:
    """Whether a coroutine is one of these."""
    frame = coroutine.cr_frame if inspect.iscoroutine(coroutine) else None
    return frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_qualname) in WATCHERS
