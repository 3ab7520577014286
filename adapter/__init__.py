"""FastAPI on AWS Lambda: responses stream live, and BackgroundTasks run after the stream has closed."""

from typing import TYPE_CHECKING

from .exceptions import (
    AdapterError,
    AppError,
    ConfigurationError,
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
    "BlockingResponseStream",
    "ConfigurationError",
    "EventError",
    "LifespanFailure",
    "ResponseStream",
    "RuntimeApiError",
    "SeamError",
    "StreamingAdapter",
    "UnknownEventError",
    "current_invocation",
    "log_filter",
    "streamify",
]

if TYPE_CHECKING:
    from .asgi import StreamingAdapter
    from .blocking import BlockingResponseStream
    from .current import current_invocation, log_filter
    from .handler import streamify
    from .stream import ResponseStream
else:

    def __getattr__(name: str) -> object:
        """Import what is asked for: what a function does not use shall cost its cold start nothing."""
        match name:
            case "StreamingAdapter":
                from .asgi import StreamingAdapter as value
            case "streamify":
                from .handler import streamify as value
            case "BlockingResponseStream":
                from .blocking import BlockingResponseStream as value
            case "current_invocation":
                from .current import current_invocation as value
            case "log_filter":
                from .current import log_filter as value
            case "ResponseStream":
                from .stream import ResponseStream as value
            case _:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, value)
