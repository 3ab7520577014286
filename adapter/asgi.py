"""`StreamingAdapter`: an ASGI app as a Lambda handler."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from .cycle import HTTPCycle
from .environment import environment
from .events import TEXT_MIME_TYPES, read_event
from .exceptions import ConfigurationError, UnknownEventError
from .invocation import enter, leave
from .lifespan import MODES, Lifespan
from .response import SERVER_ERROR, Buffer
from .stream import ResponseStream
from .work import Rules, Work, watch_background_tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from mangum.types import LambdaConfig, LambdaHandler

    from .background import BackgroundFailure
    from .environment import Over
    from .events import Request
    from .types import ASGIApp, LifespanMode
    from .work import Hook


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
    - ``api_gateway_base_path``: a path that the front end has put before the app's own; it becomes ``root_path``.
    - ``custom_handlers``: classes with mangum's handler interface, asked before the known triggers.
    - ``text_mime_types``: content types whose bodies a buffered reply carries as text, by part of their name. Types
      that say so themselves, such as ``application/problem+json``, need not be among them.
    - ``exclude_headers``: headers of the app's that are not passed on.

    As with Mangum, ``app``, ``lifespan``, ``custom_handlers`` and ``config`` are attributes. ``config`` is a dict of
    ``api_gateway_base_path``, ``text_mime_types`` and ``exclude_headers``: a change is in force for the next request.

    And beyond Mangum's:

    - ``stream``: the triggers whose front ends take a streamed reply, of "function-url", "rest-api" (a REST API with
      ``responseTransferMode: STREAM``) and the names of custom handlers' classes. By default what the environment
      variable ``ADAPTER_STREAM`` says, ``function-url,rest-api`` or the like, else function URLs. The event does not
      tell: it has to be what the front end is configured to.
    - ``event_handler``: ``(event, context)``, sync or async, for events that are no HTTP requests: SQS, S3, a schedule,
      any JSON. What it returns is the invocation's result, what it raises an invocation error, with Lambda's retries.
    - ``events_path``: a path of the app's that takes such events instead, as ``POST`` with the event as JSON; its JSON
      reply is the result, a status of 300 or more an invocation error.

    - ``shutdown_on_sigterm``: True to run the lifespan's shutdown when Lambda ends the environment, under awslambdaric
      (the asyncio runtime always does). It registers an internal extension, without which there is no SIGTERM.
    - ``startup_after_restore``: True to run the lifespan's startup, with SnapStart, when the environment has been
      restored, not before the snapshot is taken: for connections, and what must differ from environment to environment.

    For what comes after the response (docs/background.md), in seconds:

    - ``drain_timeout``: how long the adapter waits for the tasks that a request leaves running; 10 by default, 0 for
      not at all. It leaves longer ones to themselves. A number also has the deadline cancel them. `wait_until` and
      `Executor` are for what has to be done however long it takes.
    - ``deadline_margin``: how long before the function's timeout what is still under way is cancelled. Half of it is
      for cleanup; what runs after the handler, a tracer's flush, needs some too. At most half of the time there is.
    - ``after_response``: a function without arguments, or a list of them, sync (in a thread) or async, to be called
      after everything else: to flush telemetry. Also when the app has failed.
    - ``on_background_error``: a function, sync (in a thread) or async, that is called with a `BackgroundFailure`.
    - ``raise_background_errors``: True to have the handler raise what has failed after the response, in place of a log
      line: an exception, or a group of several. Its caller has had the whole response all the same.
    - ``sse_deadline_event``: True to end server-sent events that the deadline cuts short with an ``event: error``.
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
        stream: Collection[str] | None = None,
        event_handler: Callable[[Any, Any], Any] | None = None,
        events_path: str | None = None,
        shutdown_on_sigterm: bool = False,
        startup_after_restore: bool = False,
        drain_timeout: float | None = None,
        deadline_margin: float = 1.0,
        after_response: Hook | Sequence[Hook] | None = None,
        on_background_error: Callable[[BackgroundFailure], object] | None = None,
        raise_background_errors: bool = False,
        sse_deadline_event: bool = False,
    ) -> None:
        if not callable(app):
            raise ConfigurationError(f"app must be an ASGI application, not {app!r}")
        if lifespan not in MODES:
            raise ConfigurationError(f"lifespan must be one of {', '.join(MODES)}, not {lifespan!r}")
        if not isinstance(api_gateway_base_path, str):
            raise ConfigurationError(f"api_gateway_base_path must be a path like '/api', not {api_gateway_base_path!r}")
        self.app = app
        self.lifespan = lifespan
        self.custom_handlers = list(_sequence("custom_handlers", custom_handlers, type))
        self.config: LambdaConfig = {
            "api_gateway_base_path": api_gateway_base_path or "/",
            "text_mime_types": list(_sequence("text_mime_types", text_mime_types, str)) or list(TEXT_MIME_TYPES),
            "exclude_headers": [name.lower() for name in _sequence("exclude_headers", exclude_headers, str)],
        }
        self._stream = _streamed(stream, [handler.__name__ for handler in self.custom_handlers])
        if event_handler is not None and not callable(event_handler):
            raise ConfigurationError(f"event_handler must be a function (event, context), not {event_handler!r}")
        if events_path is not None and not (isinstance(events_path, str) and events_path.startswith("/")):
            raise ConfigurationError(f"events_path must be a path like '/events', not {events_path!r}")
        if event_handler is not None and events_path is not None:
            raise ConfigurationError("event_handler and events_path are for the same events: give one of them")
        self._event_handler: Any = event_handler
        self._events_path = events_path
        self._rules = Rules(
            drain_timeout=drain_timeout,
            deadline_margin=deadline_margin,
            after_response=after_response,
            on_background_error=on_background_error,
            raise_background_errors=raise_background_errors,
            sse_deadline_event=sse_deadline_event,
        )
        watch_background_tasks()
        self._home = environment()
        self._lifespan: Lifespan | None = None
        self._started = False
        if shutdown_on_sigterm:
            self._home.shut_down_on_sigterm()
        if self._home.api is not None:
            if startup_after_restore and os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
                from snapshot_restore_py import register_after_restore

                register_after_restore(self._startup)
            else:
                self._home.at_init(self._startup)

    def __call__(self, event: Any, context: Any) -> Any:
        """Answer an event: under awslambdaric ``{"statusCode": N}``, the reply itself elsewhere."""
        if not self._started:
            self._startup()
        invocation, is_platforms = self._home.invocation(context)
        token = enter(invocation, alone=self._home.is_alone)
        try:
            request = self._read(event, context)
            work = Work(invocation, self._rules)
            if request is not None:
                return self._home.serve(work, self._answer(request, work, is_platforms))
            # A handler as Lambda knows them: a sync one is called where no event loop runs, as it would be there.
            try:
                result = self._event_handler(event, context)
            except (KeyboardInterrupt, SystemExit) as exception:
                self._home.leave(exception, [work])
                raise
            except BaseException as exception:
                result, work.error = None, exception
            if asyncio.iscoroutine(result):
                return self._home.serve(work, result)
            work.value = result
            return self._home.serve(work, None)
        finally:
            leave(token)

    def adapter_begin(self, event: Any, context: Any, over: Over) -> None:
        """`__call__` for a runtime whose loop runs (`adapter.runtime`): the work is begun, and goes on by itself."""
        invocation, is_platforms = self._home.invocation(context)
        request = self._read(event, context)
        work = Work(invocation, self._rules)
        if request is None:
            self._home.begin(work, self._handle(event, context), over)
        else:
            self._home.begin(work, self._answer(request, work, is_platforms), over)

    async def _handle(self, event: object, context: Any) -> Any:
        """By the event handler; a sync one in a thread, since the loop runs on."""
        if inspect.iscoroutinefunction(self._event_handler):
            return await self._event_handler(event, context)
        from .blocking import to_thread

        result = await to_thread(self._event_handler, event, context)
        return await result if asyncio.iscoroutine(result) else result

    def _read(self, event: Any, context: Any) -> Request | None:
        """The event as a request; None for the event handler."""
        try:
            request = read_event(event, context, self.config, self.custom_handlers)
        except UnknownEventError:
            if self._event_handler is not None:
                return None
            if self._events_path is None:
                raise
            from .event_sources import read_source

            request = read_source(event, context, self._events_path)
        request.scope["state"] = {} if self._lifespan is None else self._lifespan.state.copy()
        return request

    async def _answer(self, request: Request, work: Work, is_platforms: bool) -> Any:
        bodiless = request.scope["method"] == "HEAD"
        invocation = work.invocation
        work.is_http = True
        buffer = reply = None
        if not is_platforms:
            buffer = Buffer()
            stream = ResponseStream(buffer, invocation.request_id, bodiless=bodiless)
        elif request.trigger in self._stream:
            stream = await self._home.stream(invocation, bodiless=bodiless)
        else:
            stream, reply = self._home.buffered(invocation, request.reply, request.trigger, bodiless=bodiless)
        work.stream = stream
        await HTTPCycle(request.scope, request.body, stream, work, self.config["exclude_headers"]).run(self.app)
        if buffer is not None:
            return request.reply(buffer.head or SERVER_ERROR, bytes(buffer.body))
        if reply is not None and reply.error is not None:
            raise reply.error
        return {"statusCode": stream.status}

    def _startup(self) -> None:
        """Start the lifespan if it has not been: in the init phase on Lambda, with the first call elsewhere."""
        if self.lifespan != "off":
            made = Lifespan(self.app, self.lifespan)
            # One of the app's that has started is this adapter's, too: some make an adapter for each event.
            lifespan = next((known for known in self._home.lifespans if known.is_same(made)), None)
            if lifespan is None:
                lifespan = made
                try:
                    self._home.run(lifespan.startup())
                except Exception as exception:
                    if self._home.api is not None:
                        from .log import log_related

                        log_related(exception, "The application's lifespan startup fails")
                    raise
                self._home.lifespans.append(lifespan)
                if self._home.api is None:
                    atexit.register(self._home.run, lifespan.shutdown())
            self._lifespan = lifespan
            self._rules.after_response += tuple(flush for one in self._home.lifespans for flush in one.flushes)
        self._started = True


STREAMING = ("function-url", "rest-api")
"""Triggers whose front ends can be configured to take a streamed reply."""


def _streamed(stream: Collection[str] | None, custom: list[str]) -> frozenset[str]:
    """The triggers that are streamed to: as given, else as the environment says."""
    where, value = "stream", stream
    if value is None and (variable := os.environ.get("ADAPTER_STREAM")) is not None:
        where, value = "ADAPTER_STREAM", [name for part in variable.split(",") if (name := part.strip())]
    if value is None:
        return frozenset({"function-url"})
    known = (*STREAMING, *custom)
    wanted = f"{where} must name triggers that can take a stream, of {', '.join(known)}"
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        example = value if value in known else "function-url"
        raise ConfigurationError(f"{wanted}, in a set or a list, stream={{{example!r}}}, not {value!r}")
    unknown = [name for name in value if name not in known]
    if unknown:
        raise ConfigurationError(f"{wanted}, not {', '.join(map(repr, unknown))}")
    return frozenset(value)


def _sequence(name: str, value: Any, kind: type) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or not all(isinstance(v, kind) for v in value):
        raise ConfigurationError(f"{name} must be a list of {_KINDS[kind]}, not {value!r}")
    return value


_KINDS = {str: "strings", type: "handler classes"}
