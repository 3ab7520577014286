"""VPC Lattice's events, of target groups with the event structure V2 and V1.

https://docs.aws.amazon.com/vpc-lattice/latest/ug/lambda-functions.html

The documentation does not say whether path and parameters are encoded. ASSUMPTION: both are as they were sent, as a
load balancer's are; https://github.com/aws/aws-lambda-rust-runtime (lambda-http) reads them so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .events import encoded, field, forwarded_scheme, header_fields, http_scope, server, text_or_base64
from .multi_value import encoded_query, last_hop, one_a_name, pairs, request_headers
from .trigger import Trigger

if TYPE_CHECKING:
    from .response import Head
    from .types import Scope


class LatticeV2(Trigger):
    """All values of a header and of a parameter."""

    trigger = "vpc-lattice"
    path_field = "path"
    parameters_field = "queryStringParameters"

    @property
    def scope(self) -> Scope:
        event = self.event
        path = field(event, self.path_field, str, default="") or "/"
        headers = request_headers(pairs(event, "headers"))
        single = dict(headers)
        scheme = forwarded_scheme(single)  # ASSUMPTION: https, where nobody says; Lattice itself does not
        return http_scope(
            self.event,
            self.context,
            method=field(event, "method", str),
            path=unquote(path),
            raw_path=encoded(path),
            root_path="",
            query_string=encoded_query(pairs(event, self.parameters_field)),
            headers=header_fields(headers),
            client=last_hop(headers),
            scheme=scheme,
            server=server(single, "", scheme),
        )

    def reply(self, head: Head, body: bytes) -> dict[str, Any]:
        """One value a header: the documented response has strings. ASSUMPTION: several cookies as for an ALB."""
        text, is_base64 = text_or_base64(head, body, self.config["text_mime_types"])
        return {
            "statusCode": head.status,
            "headers": one_a_name(head),
            "body": text,
            "isBase64Encoded": is_base64,
        }


class LatticeV1(LatticeV2):
    """Repeated headers are joined already, and of a repeated parameter there is the last value only."""

    path_field = "raw_path"
    parameters_field = "query_string_parameters"
    base64_field = "is_base64_encoded"
