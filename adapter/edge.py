"""Lambda@Edge: CloudFront's viewer and origin requests, answered in the origin's place.

https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-event-structure.html
https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-generating-http-responses.html
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .events import encoded, field, from_base64, header_fields, http_scope, server, text_or_base64
from .exceptions import EventError, quoted
from .multi_value import lists, request_headers
from .trigger import Trigger

if TYPE_CHECKING:
    from .response import Head
    from .types import Scope

# With one of these in it CloudFront refuses the response (502); it makes the length itself:
# https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/edge-function-restrictions-all.html
_REFUSED = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-amzn-auth",
        "x-amzn-errortype",
        "x-amzn-fle-profile",
        "x-amzn-header-count",
        "x-amzn-header-order",
        "x-amzn-lambda-integration-tag",
        "x-amzn-requestid",
        "x-cache",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
_REFUSED_PREFIXES = ("proxy-", "x-accel-", "x-amz-cf-", "x-amzn-cf-", "x-edge-")


class LambdaEdge(Trigger):
    """The request is in ``Records[0].cf.request``, its path and query as they were sent."""

    trigger = "lambda-edge"

    @property
    def scope(self) -> Scope:
        cf = field(self.event["Records"][0], "cf", dict, "Records[0].")
        if "response" in cf:
            raise EventError(
                "the event is of a CloudFront response, which an app cannot answer; "
                "the function belongs to viewer requests or origin requests"
            )
        request = field(cf, "request", dict, "Records[0].cf.")
        headers = request_headers(
            [
                (name, field(entry, "value", str, f"Records[0].cf.request.headers.{quoted(name)}."))
                for name, entries in field(request, "headers", dict, "Records[0].cf.request.", {}).items()
                for entry in entries
            ]
        )
        single = dict(headers)
        # There if the origin request policy adds it. X-Forwarded-* would be the viewer's own.
        scheme = "http" if single.get("cloudfront-forwarded-proto", "").lower() == "http" else "https"
        domain = field(cf, "config", dict, "Records[0].cf.", {}).get("distributionDomainName")
        path = field(request, "uri", str, "Records[0].cf.request.", "") or "/"
        client = field(request, "clientIp", str, "Records[0].cf.request.", "")
        return http_scope(
            self.event,
            self.context,
            method=field(request, "method", str, "Records[0].cf.request."),
            path=unquote(path),
            raw_path=encoded(path),
            root_path="",
            query_string=encoded(field(request, "querystring", str, "Records[0].cf.request.", "")),
            headers=header_fields(headers),
            client=(client, 0) if client else None,
            scheme=scheme,
            server=server({"host": single.get("host", "")}, str(domain or ""), scheme),
        )

    @property
    def body(self) -> bytes:
        request = self.event["Records"][0]["cf"]["request"]
        body = field(request, "body", dict, "Records[0].cf.request.", {})
        if body.get("inputTruncated"):
            raise EventError("the event has only a part of the body: CloudFront has truncated it (40 KB, 1 MB)")
        data: str = field(body, "data", str, "Records[0].cf.request.body.", "")
        return from_base64(data) if body.get("encoding") == "base64" else data.encode()

    def reply(self, head: Head, body: bytes) -> dict[str, Any]:
        """``{"status": "200", "statusDescription", "headers": {name: [{"key", "value"}]}, "body", "bodyEncoding"}``."""
        text, is_base64 = text_or_base64(head, body, self.config["text_mime_types"])
        try:
            description = HTTPStatus(head.status).phrase
        except ValueError:
            description = ""
        return {
            "status": str(head.status),
            "statusDescription": description,
            "headers": {
                name: [{"key": name, "value": value} for value in values]
                for name, values in lists(head).items()
                if name not in _REFUSED and not name.startswith(_REFUSED_PREFIXES)
            },
            "body": text,
            "bodyEncoding": "base64" if is_base64 else "text",
        }
