"""Lambda events as HTTP requests: which trigger sent it, its ASGI scope and body, and the reply that the trigger reads.

A function URL's events are read here, all others in a module of their trigger's, which is imported when the first of
them comes. Each trigger is a class with ``scope``, ``body`` and ``__call__(response)``: the shape of mangum's handlers,
and of the custom ones that users bring, which have ``infer(event, context, config)`` too.
"""

from __future__ import annotations

import base64
import functools
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .exceptions import EventError, quoted, shown
from .response import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from mangum.types import LambdaConfig, LambdaHandler, Response

    from .trigger import Trigger
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

_TEXT_FORMATS = frozenset({"json", "json-seq", "jsonl", "jsonlines", "ndjson", "xml", "yaml"})
"""Formats that are text, as structured suffixes or alone, as in ``application/x-yaml``.

https://www.iana.org/assignments/media-type-structured-suffix/media-type-structured-suffix.xhtml
"""

ASGI = {"version": "3.0", "spec_version": "2.3"}
"""From 2.4 on a server's `send` raises after a disconnect, and Starlette then skips the background tasks."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HTTP_VERSIONS = {"2.0": "2", "": "1.1"}  # ASGI knows "1.0", "1.1" and "2"
_NAME = string.ascii_letters + string.digits + "._~%!$&'()*+,;=-"
_ADDRESS = string.hexdigits + ":."


class Request:
    """One event, read: what the app is called with, and how its trigger wants the reply.

    ``trigger`` is "function-url", "http-api", "rest-api", "alb", "lambda-edge", "vpc-lattice", or the class name of a
    custom handler; ``reply`` makes what its front end takes where it does not take a stream, a dict.
    """

    __slots__ = ("_handler", "body", "scope", "trigger")

    def __init__(self, scope: Scope, body: bytes, trigger: str, handler: Callable[[Response], Any]) -> None:
        self.scope = scope
        self.body = body
        self.trigger = trigger
        self._handler = handler  # of its trigger

    def reply(self, head: Head, body: bytes) -> Any:
        headers = [[name.encode("latin-1"), value.encode("latin-1")] for name, value in head.headers]
        return self._handler({"status": head.status, "headers": headers, "body": body})


def read_event(
    event: Any, context: Any, config: LambdaConfig, custom_handlers: Sequence[type[LambdaHandler]] = ()
) -> Request:
    """Return the request in ``event``; raises `EventError` if it is malformed, or no trigger's."""
    if not isinstance(event, dict) and not isinstance(event, Mapping):
        from .event_sources import unknown

        raise unknown(event)
    kind: type[Any]
    given: Any = event
    plain = as_json(event)
    try:
        for kind in custom_handlers:
            if kind.infer(given, context, config):
                trigger = kind.__name__
                break
        else:
            event = plain
            kind = FunctionURL if is_function_url(event) else _other(event)
            trigger = kind.trigger
        handler = kind(event, context, config)
        scope, body = handler.scope, handler.body
        if body:
            scope["headers"] = with_length(scope.get("headers", ()), len(body))
    except EventError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exception:
        raise EventError(
            f"the event is malformed, {kind.__name__} cannot read it: "
            f"{type(exception).__name__}: {quoted(str(exception))}"
        ) from exception
    if custom_handlers:
        scope["asgi"] = ASGI.copy()  # whatever one of them says
        scope.setdefault("extensions", {})
    if event is not given:
        scope["aws.event"] = given
    return Request(scope, body, trigger, handler)


def as_json(event: Mapping[str, Any]) -> LambdaEvent:
    """Return the event as `json` makes it: other mappings become dicts, tuples become lists.

    Powertools' data classes are such mappings:
    https://docs.powertools.aws.dev/lambda/python/latest/utilities/data_classes/
    """
    return event if isinstance(event, dict) else {name: _plain(value) for name, value in event.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def with_length(headers: Iterable[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request with a body, whose ``Content-Length`` is the ``length`` in bytes.

    REST APIs leave it out (https://github.com/Kludex/mangum/issues/143), and so does a client that sends chunks. WSGI
    apps then see no body. An event has the body in one piece, so that a transfer coding is removed (RFC 9112, 7.1.3).
    """
    others = [(name, value) for name, value in headers if name not in (b"content-length", b"transfer-encoding")]
    return [*others, (b"content-length", b"%d" % length)]


def is_function_url(event: LambdaEvent) -> bool:
    """Its events are those of an HTTP API but for the domain, ``<url-id>.lambda-url.<region>.on.aws``."""
    request_context = event.get("requestContext")
    return (
        event.get("version") == "2.0"
        and isinstance(request_context, dict)
        and ".lambda-url." in str(request_context.get("domainName"))
    )


def _other(event: LambdaEvent) -> type[Trigger]:
    from .trigger import known  # not for a function URL: imports cost a cold start

    return known(event)


class FunctionURL:
    """Lambda function URLs: payload format 2.0, with the path as it was sent.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
    """

    trigger = "function-url"

    def __init__(self, event: LambdaEvent, context: Any, config: LambdaConfig) -> None:
        self.event = event
        self.context = context
        self.config = config

    @property
    def scope(self) -> Scope:
        raw_path = path_2_0(self.event)
        path = unquote(raw_path) if "%" in raw_path else raw_path
        base_path = self.config["api_gateway_base_path"]
        root_path = "" if base_path == "/" else mounted_at(path, base_path)
        return scope_2_0(self.event, self.context, path, encoded(raw_path), root_path)

    @property
    def body(self) -> bytes:
        return read_body(self.event, "isBase64Encoded")

    def __call__(self, response: Response) -> dict[str, Any]:
        head = Head.parse(response["status"], response["headers"])
        return proxy_reply(head, response["body"], self.config["text_mime_types"])


def scope_2_0(event: LambdaEvent, context: Any, path: str, raw_path: bytes, root_path: str) -> Scope:
    """The scope of a payload 2.0. The services that send it differ in the path only."""
    request_context = field(event, "requestContext", dict)
    http = field(request_context, "http", dict, "requestContext.")
    headers: dict[str, str] = field(event, "headers", dict, default={})
    names = "".join(headers)
    if names != names.lower():  # Lambda's are in lower case
        headers = {name.lower(): value for name, value in headers.items()}
    cookies = field(event, "cookies", list, default=())
    if cookies:
        headers = {**headers, "cookie": "; ".join(map(str, cookies))}
    scheme = forwarded_scheme(headers)
    client = field(http, "sourceIp", str, "requestContext.http.", "")
    return http_scope(
        event,
        context,
        method=field(http, "method", str, "requestContext.http."),
        path=path,
        raw_path=raw_path,
        root_path=root_path,
        query_string=encoded(field(event, "rawQueryString", str, default="")),
        headers=header_fields(headers.items()),
        client=(client, 0) if client else None,
        scheme=scheme,
        server=server(headers, request_context.get("domainName"), scheme),
        protocol=field(http, "protocol", str, "requestContext.http.", ""),
    )


def http_scope(
    event: LambdaEvent,
    context: Any,
    *,
    method: str,
    path: str,
    raw_path: bytes,
    root_path: str,
    query_string: bytes,
    headers: list[tuple[bytes, bytes]],
    client: tuple[str, int] | None,
    scheme: str,
    server: tuple[str, int] | None,
    protocol: str = "",
) -> Scope:
    """The ASGI HTTP connection scope (ASGI spec, HTTP & WebSocket, "HTTP Connection Scope").

    A path that is the ``root_path`` itself gets a slash: what the app has there is its route for "/".
    """
    if root_path and path == root_path:
        path += "/"
        raw_path += b"/"
    version = protocol.partition("/")[2]
    return {
        "type": "http",
        "asgi": ASGI.copy(),  # the app's to change, like all of the scope
        "http_version": _HTTP_VERSIONS.get(version, version),
        "method": method.upper(),
        "scheme": scheme,
        "path": path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": root_path,
        "headers": headers,
        "client": client,
        "server": server,
        "extensions": {},
        "aws.event": event,
        "aws.context": context,
    }


def path_2_0(event: LambdaEvent) -> str:
    """The path of a payload 2.0, as it stands there."""
    path: str = field(event, "rawPath", str, default="")
    if not path:
        http = field(field(event, "requestContext", dict), "http", dict, "requestContext.")
        path = field(http, "path", str, "requestContext.http.", "")
    return path or "/"


def proxy_reply(head: Head, body: bytes, text_mime_types: Sequence[str] = TEXT_MIME_TYPES) -> dict[str, Any]:
    """The reply as a dict: ``statusCode``, ``headers`` and ``cookies`` if any, ``body``, ``isBase64Encoded``."""
    headers, cookies = head.combine(",")
    reply: dict[str, Any] = {"statusCode": head.status}
    if headers:
        reply["headers"] = headers
    if cookies:
        reply["cookies"] = cookies
    reply["body"], reply["isBase64Encoded"] = text_or_base64(head, body, text_mime_types)
    return reply


def text_or_base64(head: Head, body: bytes, text_mime_types: Collection[str]) -> tuple[str, bool]:
    """The body as JSON can carry it, and whether that is base64: text only where its type says so and it is UTF-8.

    A type is text by ``text_mime_types``, or by its structured suffix: ``application/problem+json``.
    """
    content_type = dict(head.headers).get("content-type", "").lower()
    subtype = content_type.partition(";")[0].rpartition("/")[2].strip()
    is_text = subtype.rpartition("+")[2].removeprefix("x-") in _TEXT_FORMATS
    if not body or is_text or any(mime_type.lower() in content_type for mime_type in text_mime_types):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # not the text that its type says
    return base64.b64encode(body).decode(), True


def read_body(event: LambdaEvent, base64_field: str) -> bytes:
    body: str | bytes | None = event.get("body")
    if not isinstance(body, bytes):  # which are in the events of unit tests only: Mangum takes them
        body = field(event, "body", str, default="")
    if event.get(base64_field):
        return from_base64(body)
    return body if isinstance(body, bytes) else body.encode()


def from_base64(text: str | bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as exception:
        raise EventError(f"the event's body says it is base64, and is not: {exception}") from exception


def mounted_at(path: str, base_path: str, stage: str = "") -> str:
    """The ``root_path`` that ``path``, decoded and as the client asked for it, begins with; "" if with none.

    It is the stage (``/prod``), the base path, or the one after the other; a base path may have the stage in it. Both
    are taken by whole segments: ``/api`` is not the base of ``/apis``. A path outside them is the app's as it is.
    """
    if not stage and base_path in ("", "/"):
        return ""
    base_path = unquote(base_path).strip("/")
    base_path = base_path and "/" + base_path
    candidates = [stage + base_path, stage]
    if is_below(base_path, stage):
        candidates.insert(0, base_path)
    for candidate in candidates:
        if candidate and is_below(path, candidate):
            return candidate
    return ""


def is_below(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or has it as its first segments."""
    return path == root or path.startswith(root + "/")


def forwarded_scheme(headers: dict[str, str]) -> str:
    scheme = headers.get("x-forwarded-proto", "").lower()
    return scheme if scheme in _DEFAULT_PORTS else "https"


def server(headers: dict[str, str], domain: object, scheme: str) -> tuple[str, int] | None:
    """Name and port of a Host header, ``a``, ``a:80`` or ``[::1]:80``; of the front end where it is none of these.

    A host is what RFC 3986, 3.2.2 calls one, of up to 255 characters (RFC 1035, 2.3.4). For anything else Starlette
    asks for the server's name as well.
    """
    # Cut, since the client's text stays in memory: what is cut off is too long to be legal.
    host, port = headers.get("host", "")[:_MAX_HOST], headers.get("x-forwarded-port", "")[:6]
    return _server(host, port, str(domain or "")[:_MAX_HOST], scheme)


_MAX_HOST = len("[]:65535") + 256


@functools.lru_cache(128)
def _server(host: str, forwarded_port: str, domain: str, scheme: str) -> tuple[str, int] | None:
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        head, double, tail = name.partition(":")
        legal = bracket and double and tail and "." not in head and not name.strip(_ADDRESS)
    else:
        name, colon, port = host.partition(":")
        legal = name and not name.strip(_NAME)
    if not legal or len(name) > 255 or not (colon == ":" and is_port(port) or not colon):
        name, port = domain, ""
    port = port or forwarded_port
    return (name, int(port) if is_port(port) else _DEFAULT_PORTS[scheme]) if name else None


def is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5 and text.isascii() and int(text) < 65536


def header_fields(headers: Collection[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """The headers, with names in lower case, as ASGI has them; in tuples, as of servers: some frameworks need these."""
    try:
        return [(name.encode(), value.encode()) for name, value in headers]
    except UnicodeEncodeError:  # half a surrogate pair, which any JSON can have
        return [(encoded(name), encoded(value)) for name, value in headers]


def encoded(text: str) -> bytes:
    """Return the bytes that a client sent, of an event's text: the front ends decode them as UTF-8.

    Seen behind a load balancer (https://github.com/honojs/hono/issues/4432). ASSUMPTION: so do the others. Events of
    function URLs and API Gateway point the same way (https://github.com/oven-sh/bun/issues/22994,
    https://github.com/lukeshay/astro-aws/issues/155).
    """
    return text.encode("utf-8", "surrogatepass")


_REQUIRED: Any = object()


def field(parent: dict[str, Any], name: str, kind: type, where: str = "", default: Any = _REQUIRED) -> Any:
    """A field of the event, of the type it has to have; null is as good as absent."""
    value = parent.get(name)
    if isinstance(value, kind):
        return value
    if value is not None:
        what = shown(value, where + name)
        raise EventError(f"the event's {where}{name} is {what}, where {_KINDS[kind]} is needed")
    if default is _REQUIRED:
        raise EventError(f"the event has no {where}{name}")
    return default


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
