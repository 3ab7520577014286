"""API Gateway's events: HTTP APIs in payload formats 2.0 and 1.0, and REST APIs, buffered and streamed alike.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html

What the client's URL has before the app's own path, the stage of an ``execute-api`` domain and the mapping of a custom
one, becomes the scope's ``root_path``, and ``path`` has it too, as ASGI wants it: routes match, and the URLs that an
app makes lead back to it. What the events say of it was seen on AWS
(https://github.com/aws-powertools/powertools-lambda-python/pull/579,
https://github.com/CodeGenieApp/serverless-express/issues/465, https://github.com/localstack/localstack/pull/12296):

============  ========================  ===============================================================
event         execute-api domain        custom domain
============  ========================  ===============================================================
HTTP API 2.0  ``/stage/path``           ``/stage/path``: without the mapping, with a stage not sent
HTTP API 1.0  ``/stage/path``           ``/mapping/path``
REST API      ``/path``; in the         ``/mapping/path``
              ``requestContext`` also
              ``/stage/path``
============  ========================  ===============================================================

The stage ``$default`` is in no path. Where a mapping ends nobody tells: it is the ``api_gateway_base_path``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from .events import (
    encoded,
    field,
    forwarded_scheme,
    header_fields,
    http_scope,
    is_below,
    mounted_at,
    path_2_0,
    proxy_reply,
    scope_2_0,
    server,
    text_or_base64,
)
from .multi_value import lists, pairs, request_headers
from .trigger import Trigger

if TYPE_CHECKING:
    from .response import Head
    from .types import LambdaEvent, Scope

# What a path can have unencoded: pchar and "/" (RFC 3986, 3.3).
_PATH = "/:@!$&'()*+,;="


class HttpApi(Trigger):
    """HTTP APIs, payload format 2.0: a function URL's, but for the path, which is decoded and may have a stage."""

    trigger = "http-api"

    @property
    def scope(self) -> Scope:
        path = path_2_0(self.event)
        stage, custom = _stage(self.event)
        base_path = self.config["api_gateway_base_path"]
        if custom:
            # The client's URL has no stage, and may have a mapping that the event lacks: that is the base path then.
            if stage and is_below(path, stage):
                path = path.removeprefix(stage) or "/"
            root_path = mounted_at(path, base_path)
            if not root_path and (base_path := base_path.strip("/")):
                root_path = "/" + unquote(base_path)
                path = root_path + path
        else:
            root_path = mounted_at(path, base_path, stage)
        return scope_2_0(self.event, self.context, path, quote(path, _PATH).encode(), root_path)

    def reply(self, head: Head, body: bytes) -> dict[str, Any]:
        return proxy_reply(head, body, self.config["text_mime_types"])


class HttpApiV1(Trigger):
    """HTTP APIs, payload format 1.0: the path is decoded, and so are the parameters."""

    trigger = "http-api"

    @property
    def scope(self) -> Scope:
        path = field(self.event, "path", str, default="") or "/"
        stage, custom = _stage(self.event)
        root_path = mounted_at(path, self.config["api_gateway_base_path"], "" if custom else stage)
        return self.scope_1_0(path, quote(path, _PATH).encode(), root_path)

    def scope_1_0(self, path: str, raw_path: bytes, root_path: str) -> Scope:
        """The scope of a payload 1.0, of which the services differ in the path only."""
        event = self.event
        request_context = field(event, "requestContext", dict)
        identity = field(request_context, "identity", dict, "requestContext.", {})
        client = field(identity, "sourceIp", str, "requestContext.identity.", "")
        headers = request_headers(pairs(event, "multiValueHeaders", "headers"))
        parameters = pairs(event, "multiValueQueryStringParameters", "queryStringParameters")
        single = dict(headers)
        scheme = forwarded_scheme(single)
        return http_scope(
            self.event,
            self.context,
            method=field(event, "httpMethod", str),
            path=path,
            raw_path=raw_path,
            root_path=root_path,
            query_string=urlencode(parameters).encode(),
            headers=header_fields(headers),
            client=(client, 0) if client else None,
            scheme=scheme,
            server=server(single, str(request_context.get("domainName") or ""), scheme),
            protocol=field(request_context, "protocol", str, "requestContext.", ""),
        )

    def reply(self, head: Head, body: bytes) -> dict[str, Any]:
        """Headers with several values are in ``multiValueHeaders``, the others in ``headers``."""
        headers = lists(head)
        text, is_base64 = text_or_base64(head, body, self.config["text_mime_types"])
        return {
            "statusCode": head.status,
            "headers": {name: values[0] for name, values in headers.items() if len(values) == 1},
            "multiValueHeaders": {name: values for name, values in headers.items() if len(values) > 1},
            "body": text,
            "isBase64Encoded": is_base64,
        }


class RestApi(HttpApiV1):
    """REST APIs: the path as it was sent, and once more with what stands before it in the URL; decoded parameters."""

    trigger = "rest-api"

    @property
    def scope(self) -> Scope:
        path: str = field(self.event, "path", str, default="") or "/"
        request_context = field(self.event, "requestContext", dict)
        asked: str = field(request_context, "path", str, "requestContext.", "").rstrip("/")
        # Of several slashes after the stage API Gateway leaves one in `path`.
        stage = asked.removesuffix(path.rstrip("/")).rstrip("/") if asked.endswith(path.rstrip("/")) else ""
        path = stage + path
        root_path = mounted_at(unquote(path), self.config["api_gateway_base_path"], unquote(stage))
        return self.scope_1_0(unquote(path), encoded(path), root_path)


def _stage(event: LambdaEvent) -> tuple[str, bool]:
    """The stage as the first segment of a path, "" for ``$default``; and whether the domain is a custom one."""
    request_context = field(event, "requestContext", dict)
    stage = field(request_context, "stage", str, "requestContext.", "$default")
    domain = field(request_context, "domainName", str, "requestContext.", "")
    return "" if stage in ("", "$default") else f"/{stage}", bool(domain) and ".execute-api." not in domain
