"""Application Load Balancers' events, of target groups with and without ``lambda.multi_value_headers.enabled``.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .events import encoded, field, forwarded_scheme, header_fields, http_scope, server, text_or_base64
from .multi_value import encoded_query, last_hop, lists, one_a_name, pairs, request_headers
from .trigger import Trigger

if TYPE_CHECKING:
    from .response import Head
    from .types import Scope


class LoadBalancer(Trigger):
    """Path and parameters as they were sent; all values of a header, or the last one, by the target group."""

    trigger = "alb"

    @property
    def scope(self) -> Scope:
        event = self.event
        path = field(event, "path", str, default="") or "/"
        headers = request_headers(pairs(event, "multiValueHeaders", "headers"))
        single = dict(headers)
        scheme = forwarded_scheme(single)
        return http_scope(
            self.event,
            self.context,
            method=field(event, "httpMethod", str),
            path=unquote(path),
            raw_path=encoded(path),
            root_path="",
            query_string=encoded_query(pairs(event, "multiValueQueryStringParameters", "queryStringParameters")),
            headers=header_fields(headers),
            client=last_hop(headers),
            scheme=scheme,
            server=server(single, "", scheme),
        )

    def reply(self, head: Head, body: bytes) -> dict[str, Any]:
        """The headers in the field that the event had them in; the load balancer reads no other.

        The documented example has a ``statusDescription`` too, which is not among what the text says must be there.
        """
        text, is_base64 = text_or_base64(head, body, self.config["text_mime_types"])
        reply: dict[str, Any] = {"statusCode": head.status, "body": text, "isBase64Encoded": is_base64}
        if self.event.get("multiValueHeaders") is None:
            reply["headers"] = one_a_name(head)
        else:
            reply["multiValueHeaders"] = lists(head)
        return reply
