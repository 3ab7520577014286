"""The triggers but for function URLs: which of them sent an event, and what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .events import read_body
from .response import Head

if TYPE_CHECKING:
    from mangum.types import LambdaConfig, Response

    from .types import LambdaEvent, Scope


def known(event: LambdaEvent) -> type[Trigger]:
    """The trigger that sends events like this; `UnknownEventError` if none is known that does."""
    request_context = event.get("requestContext")
    records = event.get("Records")
    if isinstance(request_context, dict) and event.get("type") != "REQUEST":  # which an authorizer is asked about
        version = event.get("version")
        if version == "2.0" and "http" in request_context:
            from .api_gateway import HttpApi

            return HttpApi
        if version == "1.0" and "httpMethod" in event:  # also the version of what destinations get
            from .api_gateway import HttpApiV1

            return HttpApiV1
        if "resource" in event and "httpMethod" in event:
            from .api_gateway import RestApi

            return RestApi
        if "elb" in request_context:
            from .load_balancer import LoadBalancer

            return LoadBalancer
        if "serviceArn" in request_context:
            from .lattice import LatticeV2

            return LatticeV2
    elif "raw_path" in event and "method" in event:
        from .lattice import LatticeV1

        return LatticeV1
    elif isinstance(records, list) and records and isinstance(records[0], dict) and "cf" in records[0]:
        from .edge import LambdaEdge

        return LambdaEdge
    from .event_sources import unknown

    raise unknown(event)


class Trigger:
    """A trigger, for one event: a subclass makes the ASGI scope, and the reply of a head and a whole body."""

    trigger = ""
    base64_field = "isBase64Encoded"

    def __init__(self, event: LambdaEvent, context: Any, config: LambdaConfig) -> None:
        self.event = event
        self.context = context
        self.config = config

    if TYPE_CHECKING:

        @property
        def scope(self) -> Scope: ...

        def reply(self, head: Head, body: bytes) -> dict[str, Any]: ...

    @property
    def body(self) -> bytes:
        return read_body(self.event, self.base64_field)

    def __call__(self, response: Response) -> dict[str, Any]:
        return self.reply(Head.parse(response["status"], response["headers"]), response["body"])
