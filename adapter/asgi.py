"""`StreamingAdapter`: an ASGI app as a Lambda handler."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .cycle import HTTPCycle
from .environment import environment
from .events import TEXT_MIME_TYPES, read_event
from .exceptions import ConfigurationError
from .lifespan import MODES, Lifespan
from .response import SERVER_ERROR, Buffer
from .stream import ResponseStream

if TYPE_CHECKING:
    from mangum.types import LambdaConfig, LambdaHandler

    from .events import Request
    from .types import ASGIApp, LambdaEvent, LifespanMode


class StreamingAdapter:
    """Wraps an ASGI app (FastAPI, Starlette, …) for AWS Lambda::

        handler = StreamingAdapter(app)     # Handler: main.handler

    A function URL's request is answered as the app answers it, chunk by chunk
    (`InvokeMode: RESPONSE_STREAM`). When the app has sent its last chunk the
    caller has its whole response; BackgroundTasks run then, and the invocation
    ends when they are done. The replies to other triggers are buffered.

    Under awslambdaric, AWS's own runtime client, it returns ``{"statusCode": N}``;
    called with an event outside Lambda, the reply as a dict, as Mangum does.

    The arguments are Mangum's:

    - ``lifespan``: "auto", "on" or "off". Startup runs once, here: in the init phase.
    - ``api_gateway_base_path``: a path to take off the front of the request's.
    - ``custom_handlers``: classes with mangum's handler interface, asked before the known triggers.
    - ``text_mime_types``: content types whose bodies a buffered reply carries as text, by part of their name.
    - ``exclude_headers``: headers of the app's that are not passed on.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifespan: LifespanMode = "auto",
        api_gateway_base_path: str = "/",
        custom_handlers: Sequence[type[LambdaHandler]] | None = None,
        text_mime_types: Sequence[str] | None = None,
        exclude_headers: Sequence[str] | None = None,
    ) -> None:
        if not callable(app):
            raise ConfigurationError(f"app must be an ASGI application, not {app!r}")
        if lifespan not in MODES:
            raise ConfigurationError(f"lifespan must be one of {', '.join(MODES)}, not {lifespan!r}")
        if not isinstance(api_gateway_base_path, str):
            raise ConfigurationError(f"api_gateway_base_path must be a path like '/api', not {api_gateway_base_path!r}")
        self.app = app
        self._custom_handlers = tuple(_sequence("custom_handlers", custom_handlers, type))
        self._config: LambdaConfig = {
            "api_gateway_base_path": api_gateway_base_path or "/",
            "text_mime_types": list(_sequence("text_mime_types", text_mime_types, str)) or list(TEXT_MIME_TYPES),
            "exclude_headers": [name.lower() for name in _sequence("exclude_headers", exclude_headers, str)],
        }
        self._home = environment()
        self._lifespan = None if lifespan == "off" else Lifespan(app, lifespan)
        self._started = self._lifespan is None
        if self._home.api is not None:
            self._startup()

    def __call__(self, event: LambdaEvent, context: Any) -> dict[str, Any]:
        self._startup()
        request = read_event(event, context, self._config, self._custom_handlers)
        request.scope["state"] = {} if self._lifespan is None else self._lifespan.state.copy()
        return self._home.run(self._answer(request, context))

    async def _answer(self, request: Request, context: Any) -> dict[str, Any]:
        request_id = str(getattr(context, "aws_request_id", ""))
        bodiless = request.scope["method"] == "HEAD"
        invocation = self._home.invocation(context)
        buffer = None
        if invocation is not None and request.streams:
            stream = await self._home.stream(invocation, bodiless=bodiless)
        else:
            buffer = Buffer()
            stream = ResponseStream(buffer, request_id, bodiless=bodiless)
        cycle = HTTPCycle(request.scope, request.body, stream, request_id, self._config["exclude_headers"])
        await cycle.run(self.app)
        if buffer is None:
            return {"statusCode": stream.status}
        return request.reply(buffer.head or SERVER_ERROR, bytes(buffer.body))

    def _startup(self) -> None:
        """Start the lifespan if it has not been: in the init phase on Lambda, with the first call elsewhere."""
        if self._started or self._lifespan is None:
            return
        self._home.run(self._lifespan.startup())
        self._started = True
        if self._home.api is None:
            atexit.register(self._home.run, self._lifespan.shutdown())


def _sequence(name: str, value: Any, kind: type) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not all(isinstance(v, kind) for v in value):
        raise ConfigurationError(f"{name} must be a list of {_KINDS[kind]}, not {value!r}")
    return value


_KINDS = {str: "strings", type: "handler classes"}
