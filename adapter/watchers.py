"""Tasks of well-known libraries that a request starts and that live as long as the process: nobody waits for them.

Each is known by its module and the qualified name of its coroutine function. A task that also does a request's work,
such as a2a-sdk's producer or a queue's flusher, does not belong here: ``drain_timeout`` is for those.
"""

from __future__ import annotations

import inspect
from typing import Any

_MCP = "mcp.server.streamable_http_manager"

WATCHERS = frozenset(
    {
        ("aiojobs._scheduler", "Scheduler._wait_failed"),
        ("broadcaster._base", "Broadcast._listener"),
        ("langgraph.store.base.batch", "_run"),
        # It hands each callback to a task of its own, which belongs to the request that has queued it.
        ("litellm.litellm_core_utils.logging_worker", "LoggingWorker._worker_loop"),
        # One for each session, in mcp 1 and 2. The request that brings a message waits for its answer.
        (_MCP, "StreamableHTTPSessionManager._handle_stateful_request.<locals>.run_server"),
        (_MCP, "StreamableHTTPSessionManager._serve_opening_request.<locals>.run_server"),
        ("nicegui.outbox", "Outbox.loop"),
        ("psycopg_pool.pool_async", "AsyncConnectionPool.worker"),
        ("psycopg_pool.sched_async", "AsyncScheduler.run"),
        ("pymongo.periodic_executor", "AsyncPeriodicExecutor._run"),
        ("redis.asyncio.client", "PubSub.run"),
        ("sse_starlette.sse", "_shutdown_watcher"),
    }
)


def is_watcher(coroutine: Any) -> bool:
    """Whether a coroutine that has not ended is one of `WATCHERS`."""
    frame = coroutine.cr_frame if inspect.iscoroutine(coroutine) else None
    return frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_qualname) in WATCHERS
