"""FastAPI on AWS Lambda: responses stream live, and BackgroundTasks run after the stream has closed."""

import importlib
from typing import TYPE_CHECKING

from .exceptions import (
    AdapterError,
    AppError,
    ConfigurationError,
    DeadlineExceeded,
    EventError,
    LifespanFailure,
    RuntimeApiError,
    SeamError,
    UnknownEventError,
)

__version__ = "0.1.0"

__all__ = [
    "AdapterError",
    "AppError",
    "BackgroundFailure",
    "BlockingResponseStream",
    "ConfigurationError",
    "DeadlineExceeded",
    "EventError",
    "Executor",
    "LifespanFailure",
    "ResponseStream",
    "RuntimeApiError",
    "SeamError",
    "StreamingAdapter",
    "UnknownEventError",
    "current_invocation",
    "log_filter",
    "remaining_time",
    "streamify",
    "wait_until",
]

if TYPE_CHECKING:
    from .asgi import StreamingAdapter
    from .background import BackgroundFailure, wait_until
    from .blocking import BlockingResponseStream
    from .executor import Executor
    from .handler import streamify
    from .invocation import current_invocation, log_filter, remaining_time
    from .stream import ResponseStream
else:

    def __getattr__(name: str) -> object:
        """Import what is asked for: what a function does not use shall cost its cold start nothing."""
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(importlib.import_module(module, __name__), name))

    _MODULES = {
        "BackgroundFailure": ".background",
        "BlockingResponseStream": ".blocking",
        "Executor": ".executor",
        "ResponseStream": ".stream",
        "StreamingAdapter": ".asgi",
        "current_invocation": ".invocation",
        "log_filter": ".invocation",
        "remaining_time": ".invocation",
        "streamify": ".handler",
        "wait_until": ".background",
    }
