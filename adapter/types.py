"""Types shared by the package: events, and ASGI 3 callables."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, TypeAlias

Event: TypeAlias = dict[str, Any]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

RawHeaders: TypeAlias = Iterable[Iterable[bytes]]
"""``[[name, value], …]`` as ``http.response.start`` carries them (ASGI spec, HTTP, "Response Start")."""

LifespanMode: TypeAlias = Literal["auto", "on", "off"]
