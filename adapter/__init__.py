"""FastAPI on AWS Lambda: responses stream live, and BackgroundTasks run after the stream has closed."""

from .asgi import StreamingAdapter
from .exceptions import (
    AdapterError,
    AppError,
    ConfigurationError,
    EventError,
    LifespanFailure,
    RuntimeApiError,
    SeamError,
)
from .stream import ResponseStream
from .streamify import streamify

__version__ = "0.1.0"

__all__ = [
    "AdapterError",
    "AppError",
    "ConfigurationError",
    "EventError",
    "LifespanFailure",
    "ResponseStream",
    "RuntimeApiError",
    "SeamError",
    "StreamingAdapter",
    "streamify",
]
