from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from adapter.local.asynchronous import EventQueue
from adapter.local.configuration import Configuration
from adapter.local.fronts.alb import ALB, ALB_MULTI_VALUE
from adapter.local.fronts.function_url import FunctionURL
from adapter.local.fronts.http_api import HTTP_API, HTTP_API_1_0
from adapter.local.fronts.invoke import InvokeAPI
from adapter.local.fronts.request import TargetError, has_two_lengths, origin_form
from adapter.local.fronts.rest_api import REST_API, REST_API_STREAM
from adapter.local.function import Function
from adapter.local.invocation import Invocable, describe
from adapter.local.log import Log
from adapter.local.managed_instance import ManagedInstance
from adapter.local.reload import watch, watched
from adapter.local.web_pages import HostCheck, is_loopback, refuse

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope


class Front(Protocol):
    """Makes a front, an ASGI application, of a function."""

    @property
    def title(self) -> str: ...

    def __call__(self, function: Invocable, log: Log) -> ASGI3Application: ...


FRONTS: dict[str, Front] = {
    "function-url": FunctionURL(),
    "http-api": HTTP_API,
    "http-api-1.0": HTTP_API_1_0,
    "rest-api": REST_API,
    "rest-api-stream": REST_API_STREAM,
    "alb": ALB,
    "alb-multi-value": ALB_MULTI_VALUE,
}

# What uvicorn exits with when an application does not start.
STARTUP_FAILURE = 3

# A function URL's limit for request line and headers together.
MAX_HEAD = 1024 * 1024


class Server(uvicorn.Server):
    """uvicorn, with the signals left to us and an end that waits for nobody."""

    def __init__(self, config: uvicorn.Config, function: Function | ManagedInstance) -> None:
        super().__init__(config)
        self._function = function

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self._function.close()
        await super().shutdown(sockets)


class HTTPProtocol(H11Protocol):
    """uvicorn's, save that it answers a request once when that turns out to be no HTTP inside its body."""

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # now: its front may send something before the connection is lost
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # a reply is under way, or its request was a HEAD
            self.transport.close()


class Ports:
    """Which front a request is for: each listens on a port of its own, and gets a path for a target."""

    def __init__(self, fronts: Mapping[int, ASGI3Application]) -> None:
        self._fronts = fronts

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"a front has no {scope['type']}")
        if has_two_lengths(scope):
            send = closing(send)  # RFC 9112, 6.3
        try:
            request = origin_form(scope)
        except TargetError as error:
            await refuse(send, 400, f"Bad request: {error}.")
            return
        server = scope["server"]
        if server is None or server[1] is None:
            raise RuntimeError("a request comes to a port")
        await self._fronts[server[1]](request, receive, send)


def closing(send: ASGISendCallable) -> ASGISendCallable:
    """The connection ends with the reply."""

    async def send_and_close(message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_and_close


class Paths:
    """On the function URL's port the Invoke API answers too, at its own paths: an app's route there is out of reach."""

    def __init__(self, front: ASGI3Application, invoke_api: InvokeAPI) -> None:
        self._front = front
        self._invoke_api = invoke_api

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        # With a slash: ListFunctions' own path has none at its end.
        ours = scope["type"] == "http" and (scope["raw_path"] + b"/").startswith(InvokeAPI.paths)
        await (self._invoke_api if ours else self._front)(scope, receive, send)


async def serve(
    configuration: Configuration,
    listeners: Mapping[str, socket.socket],
    log: Log,
    stop: asyncio.Event,
    reload: bool,
    allowed_hosts: Collection[str] = (),
) -> int:
    """Serve the function until `stop` is set, each front (by its name in FRONTS) on a bound and listening socket; the
    exit status. One that only this machine reaches answers for no other host, save the `allowed_hosts`.

    The first environment starts before the first request, so that a function that cannot be imported says so at once.
    """
    # For the connections, which inherit it: without it a chunk waits up to 40 ms for the client to acknowledge the one
    # before. asyncio sees to that only where a socket knows its protocol; those of `socket.create_server` do not.
    for listener in listeners.values():
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    async with asyncio.TaskGroup() as tasks:
        make = Function if configuration.concurrency is None else ManagedInstance
        function = make(configuration, log, tasks)
        stopping = tasks.create_task(stop.wait())
        helpers: list[asyncio.Task[Any]] = [stopping]
        ready = asyncio.Event()
        try:
            if reload:
                # From before the function is imported: what changes meanwhile is not missed.
                helpers += [tasks.create_task(watch(function, log, place, ready)) for place in watched(configuration)]
                await asyncio.sleep(0)
            first = function.start()
            started: set[asyncio.Future[Any]] = {first, stopping}
            await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                return 0
            error = first.result()
            if error is not None and not reload:
                log.line(f"The function failed its init: {describe(error)}")
                return STARTUP_FAILURE
            ports: dict[int, ASGI3Application] = {
                listener.getsockname()[1]: FRONTS[name](function, log) for name, listener in listeners.items()
            }
            events = EventQueue(function, log, tasks)
            if "function-url" in listeners:
                port = listeners["function-url"].getsockname()[1]
                ports[port] = Paths(ports[port], InvokeAPI(function, log, events))
            for listener in listeners.values():
                host, port = listener.getsockname()[:2]
                if is_loopback(host):
                    ports[port] = HostCheck(ports[port], allowed_hosts, log)
            server = Server(server_config(Ports(ports)), function)
            serving = tasks.create_task(server.serve(sockets=list(listeners.values())))
            ready.set()
            for name, listener in listeners.items():
                title = FRONTS[name].title
                log.line(f"{title}: {url(listener)} ({configuration.handler}; Ctrl-C ends it)")
            await stopping
            events.close()  # Before its invocations are cut off and look like failures.
            server.should_exit = True
            await serving
            return 0
        finally:
            for helper in helpers:
                helper.cancel()
            await function.close()


def is_not_of_an_upgrade(record: logging.LogRecord) -> bool:
    """Of one that a client asks for uvicorn says what to install, which would change nothing; the fronts say better."""
    return "upgrade" not in str(record.msg) and "WebSocket" not in str(record.msg)


def server_config(front: ASGI3Application) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").addFilter(is_not_of_an_upgrade)
    return uvicorn.Config(
        front,
        http=HTTPProtocol,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
