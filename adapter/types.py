"""Types shared by the package: ASGI 3 callables and the Lambda context."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, Protocol, TypeAlias

Event: TypeAlias = dict[str, Any]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

RawHeaders: TypeAlias = Iterable[Iterable[bytes]]
"""``[[name, value], …]`` as ``http.response.start`` carries them (ASGI spec, HTTP, "Response Start")."""

LifespanMode: TypeAlias = Literal["auto", "on", "off"]


class LambdaContext(Protocol):
    """What the package itself reads of the context object that awslambdaric passes to a handler.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    @property
    def aws_request_id(self) -> str: ...
