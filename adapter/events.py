"""Lambda events as HTTP requests: which trigger sent it, its ASGI scope and body, and the reply that the trigger reads.

A function URL's events are read here. The other triggers, and the custom ones
that users bring, are mangum's handlers: classes with ``infer(event, context,
config)``, ``scope``, ``body`` and ``__call__(response)``, a shape that
`FunctionURL` shares.
"""

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .exceptions import EventError, UnknownEventError
from .response import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mangum.types import LambdaConfig, LambdaHandler, Response

    from .types import LambdaEvent, Scope

TEXT_MIME_TYPES = (
    "text/",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/vnd.api+json",
    "application/vnd.oai.openapi",
)
"""Content types whose bodies a buffered reply carries as text, not base64; mangum's list."""

ASGI = {"version": "3.0", "spec_version": "2.3"}
"""From 2.4 on a server's `send` raises after a disconnect, and Starlette then skips the background tasks."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = string.ascii_letters + string.digits + "._~%!$&'()*+,;=-"
_ADDRESS = string.hexdigits + ":."


class Request:
    """One event, read: what the app is called with, and how its trigger wants the reply.

    ``trigger`` is its name; ``reply`` makes what its front end takes in place
    of a streamed reply: a dict of status, headers and body.
    """

    __slots__ = ("body", "reply", "scope", "trigger")

    def __init__(self, scope: Scope, body: bytes, trigger: str, reply: Callable[[Head, bytes], Any]) -> None:
        self.scope = scope
        self.body = body
        self.trigger = trigger
        self.reply = reply


def read_event(
    event: LambdaEvent, context: Any, config: LambdaConfig, custom_handlers: Sequence[type[LambdaHandler]] = ()
) -> Request:
    """The request in ``event``; `EventError` if it is malformed, or no trigger's."""
    if not isinstance(event, dict):
        raise _unknown(event)
    trigger: type[LambdaHandler]
    try:
        for trigger in _triggers(event, custom_handlers):
            if trigger.infer(event, context, config):
                handler = trigger(event, context, config)
                scope, body = handler.scope, handler.body
                break
        else:
            raise _unknown(event)
    except EventError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exception:
        raise EventError(
            f"the event is malformed, {trigger.__name__} cannot read it: "
            f"{type(exception).__name__}: {ascii(str(exception))}"
        ) from exception
    scope["asgi"] = ASGI.copy()  # the app's to change, like all of the scope
    scope.setdefault("extensions", {})

    def reply(head: Head, body: bytes) -> dict[str, Any]:
        headers = [[name.encode("latin-1"), value.encode("latin-1")] for name, value in head.headers]
        return handler({"status": head.status, "headers": headers, "body": body})

    return Request(scope, body, "function-url" if isinstance(handler, FunctionURL) else trigger.__name__, reply)


def _unknown(event: object) -> UnknownEventError:
    from .event_sources import describe

    return UnknownEventError(
        f"no trigger is known that sends {describe(event)}; function URLs, API Gateway, ALB and Lambda@Edge are known; "
        "custom_handlers can add others, and event_handler or events_path takes events that are no HTTP requests"
    )


def _triggers(event: LambdaEvent, custom: Sequence[type[LambdaHandler]]) -> Sequence[type[LambdaHandler]]:
    """In the order in which they are asked. Mangum is imported for events that need it: it costs a cold start."""
    if not custom and FunctionURL.infer(event):
        return (FunctionURL,)
    from mangum.handlers import ALB, APIGateway, HTTPGateway, LambdaAtEdge

    return (*custom, FunctionURL, ALB, HTTPGateway, APIGateway, LambdaAtEdge)


class FunctionURL:
    """Lambda function URLs: payload format 2.0, with the path as it was sent.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
    """

    @classmethod
    def infer(cls, event: LambdaEvent, context: object = None, config: object = None) -> bool:
        """Its events are those of an HTTP API but for the domain, ``<url-id>.lambda-url.<region>.on.aws``."""
        request_context = event.get("requestContext")
        return (
            event.get("version") == "2.0"
            and isinstance(request_context, dict)
            and ".lambda-url." in str(request_context.get("domainName"))
        )

    def __init__(self, event: LambdaEvent, context: Any, config: LambdaConfig) -> None:
        self.event = event
        self.context = context
        self.config = config

    @property
    def scope(self) -> Scope:
        """The ASGI HTTP connection scope (ASGI spec, HTTP & WebSocket, "HTTP Connection Scope")."""
        event = self.event
        http = _field(event, "requestContext", dict)
        http = _field(http, "http", dict, "requestContext.")
        raw_path = _field(event, "rawPath", str, default="") or _field(http, "path", str, "requestContext.http.", "/")
        headers = {name.lower(): value for name, value in _field(event, "headers", dict, default={}).items()}
        cookies = _field(event, "cookies", list, default=[])
        if cookies:
            headers["cookie"] = "; ".join(map(str, cookies))
        scheme = headers.get("x-forwarded-proto", "").lower()
        scheme = scheme if scheme in _DEFAULT_PORTS else "https"
        client = _field(http, "sourceIp", str, "requestContext.http.", "")
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": _field(http, "protocol", str, "requestContext.http.", "HTTP/1.1").partition("/")[2]
            or "1.1",
            "method": _field(http, "method", str, "requestContext.http.").upper(),
            "scheme": scheme,
            "path": unquote(strip_base_path(raw_path, self.config["api_gateway_base_path"])),
            "raw_path": _encoded(raw_path),
            "query_string": _encoded(_field(event, "rawQueryString", str, default="")),
            "root_path": "",
            "headers": _fields(headers),
            "client": (client, 0) if client else None,
            "server": _server(
                headers.get("host", ""),
                str(event["requestContext"].get("domainName", "")),
                headers.get("x-forwarded-port", ""),
                scheme,
            ),
            "extensions": {},
            "aws.event": event,
            "aws.context": self.context,
        }

    @property
    def body(self) -> bytes:
        body: str = _field(self.event, "body", str, default="")
        if not self.event.get("isBase64Encoded"):
            return body.encode()
        try:
            return base64.b64decode(body, validate=True)
        except ValueError as exception:
            raise EventError(f"the event's body says it is base64, and is not: {exception}") from exception

    def __call__(self, response: Response) -> dict[str, Any]:
        head = Head.parse(response["status"], response["headers"])
        return proxy_reply(head, response["body"], self.config["text_mime_types"])


def proxy_reply(head: Head, body: bytes, text_mime_types: Sequence[str] = TEXT_MIME_TYPES) -> dict[str, Any]:
    """The reply as a dict: ``statusCode``, ``headers`` and ``cookies`` if any, ``body``, ``isBase64Encoded``."""
    headers, cookies = head.combine(",")
    content_type = headers.get("content-type", "")
    text = None
    if not body or any(mime_type in content_type for mime_type in text_mime_types):
        try:
            text = body.decode()
        except UnicodeDecodeError:
            pass  # not the text that its type says
    reply: dict[str, Any] = {"statusCode": head.status}
    if headers:
        reply["headers"] = headers
    if cookies:
        reply["cookies"] = cookies
    reply["body"] = base64.b64encode(body).decode() if text is None else text
    reply["isBase64Encoded"] = text is None
    return reply


def strip_base_path(path: str, base_path: str) -> str:
    """``path`` below ``base_path``, whole segments only: ``/api`` is not the base of ``/apis``."""
    base_path = "/" + base_path.strip("/")
    if base_path != "/" and (path == base_path or path.startswith(base_path + "/")):
        path = path.removeprefix(base_path)
    return path or "/"


def _server(host: str, domain: str, forwarded_port: str, scheme: str) -> tuple[str, int]:
    """Name and port of a Host header, ``a``, ``a:80`` or ``[::1]:80``; of the front end where it is none of these.

    A host is what RFC 3986, 3.2.2 calls one. For anything else Starlette asks for the server's name as well.
    """
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        head, double, tail = name.partition(":")
        legal = bracket and double and tail and "." not in head and not name.strip(_ADDRESS)
    else:
        name, colon, port = host.partition(":")
        legal = name and not name.strip(_NAME)
    if not legal or not (colon == ":" and _is_port(port) or not colon):
        name, port = domain, ""
    port = port or forwarded_port
    return name, int(port) if _is_port(port) else _DEFAULT_PORTS[scheme]


def _is_port(text: str) -> bool:
    return 0 < len(text) <= 5 and not text.strip(string.digits) and int(text) < 65536


def _fields(headers: dict[str, str]) -> list[list[bytes]]:
    """The headers as ASGI has them."""
    try:
        return [[name.encode("latin-1"), value.encode("latin-1")] for name, value in headers.items()]
    except UnicodeEncodeError:
        return [[_encoded(name), _encoded(value)] for name, value in headers.items()]


def _encoded(text: str) -> bytes:
    """The bytes a client sent: one a character, unless the event has characters beyond latin-1."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


_REQUIRED: Any = object()


def _field(parent: dict[str, Any], name: str, kind: type, where: str = "", default: Any = _REQUIRED) -> Any:
    """A field of the event, of the type it has to have; null is as good as absent."""
    value = parent.get(name)
    if value is None:
        if default is _REQUIRED:
            raise EventError(f"the event has no {where}{name}")
        return default
    if not isinstance(value, kind):
        raise EventError(f"the event's {where}{name} is {_quoted(value)}, where {_KINDS[kind]} is needed")
    return value


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}


def _quoted(value: object) -> str:
    """Anything from an event, for a message: short, and ASCII, which every log and the Runtime API can take."""
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
