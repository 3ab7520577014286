"""The seam under awslambdaric: it fetches events and calls the handler; only the response is ours.

awslambdaric does its I/O through one native module, which it keeps in
``awslambdaric.lambda_runtime_client.runtime_client``: ``next``,
``post_invocation_result`` and ``post_error``. That one reference is replaced.
``next`` remembers the ids that a post needs; a post for an invocation that has
been answered by us does nothing. It lies beneath the classes that tracers
patch, so what they do around a post still happens; and everything is passed on
as it came, so a new argument needs no new version.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from .exceptions import SeamError
from .invocation import Invocation, read_deadline
from .wire import INVOCATION_ID

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_NATIVE = ("next", "post_invocation_result", "post_error")


class RuntimeClient:
    """Stands before awslambdaric's native client."""

    def __init__(self, native: Any, current: Invocation | None) -> None:
        self._native = native
        self.current = current
        self.fetch: Callable[[Callable[[], Any]], Any] | None = None  # how to wait for an event, if not just so

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def next(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch an event. On Python 3.12 and later awslambdaric calls this in a thread of its own."""
        if self.fetch is None:
            event = self._native.next(*args, **kwargs)
        else:
            event = self.fetch(functools.partial(self._native.next, *args, **kwargs))
        headers = event[1]
        self.current = Invocation(
            headers.get("Lambda-Runtime-Aws-Request-Id"),
            headers.get(INVOCATION_ID) or None,
            read_deadline(str(headers.get("Lambda-Runtime-Deadline-Ms"))),  # awslambdaric makes a number of it
        )
        return event

    def post_invocation_result(self, *args: Any, **kwargs: Any) -> Any:
        """Post what the handler returned, unless the invocation has its response."""
        if not self._is_answered(args, kwargs):
            return self._native.post_invocation_result(*args, **kwargs)

    def post_error(self, *args: Any, **kwargs: Any) -> Any:
        """Post what the handler raised, unless the invocation has its response: after a byte of it, no error may be."""
        if not self._is_answered(args, kwargs):
            return self._native.post_error(*args, **kwargs)

    def _is_answered(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        current = self.current
        if current is None or not current.answered:
            return False
        return args[:1] == (current.request_id,) or current.request_id in kwargs.values()


class Seam:
    """Where awslambdaric's invocations can be had from."""

    def __init__(self, client: RuntimeClient) -> None:
        self.client = client

    @classmethod
    def install(cls) -> Seam:
        """Put it in its place, once a process; `SeamError` if awslambdaric is not as known (2.2 to 4.2)."""
        module: Any = importlib.import_module("awslambdaric.lambda_runtime_client")
        native = getattr(module, "runtime_client", None)
        if isinstance(native, RuntimeClient):
            return cls(native)
        missing = [name for name in _NATIVE if not callable(getattr(native, name, None))]
        if missing:
            if native is None:
                _require_native()
            raise SeamError(
                f"awslambdaric {_version()} has no {', '.join(missing)} in lambda_runtime_client.runtime_client, "
                "where the streamed response takes the place of its own post: use a version from 2.2 to 4.2"
            )
        client = RuntimeClient(native, _invocation_under_way())
        module.runtime_client = client
        return cls(client)

    def invocation(self, request_id: object) -> Invocation | None:
        """The invocation that awslambdaric is at, if it is the one of this request id.

        None for a call with a context of somebody's own making: what such a
        call returns is its caller's, not the platform's.
        """
        current = self.client.current
        if current is None:
            raise SeamError(
                f"awslambdaric {_version()} did not fetch this event through lambda_runtime_client.runtime_client, "
                "so its own post could not be held back: use a version from 2.2 to 4.2"
            )
        return current if current.request_id == request_id else None


def forks_workers() -> bool:
    """Return whether this process only forks the workers that ask for events.

    On Managed Instances awslambdaric does. Its versions 4.1.0 and 4.2.0 import the handler before that, all others in
    each worker.
    """
    if "AWS_LAMBDA_MAX_CONCURRENCY" not in os.environ:
        return False
    from multiprocessing import parent_process

    return parent_process() is None


def call_in_workers(startup: Callable[[], None]) -> None:
    """Call ``startup`` in each worker, before its first event, where awslambdaric looks its handler up once more.

    What it raises fails the init, as an exception of the handler's module does.
    """
    from .bootstrap import FINDERS

    bootstrap: Any = sys.modules.get("awslambdaric.bootstrap")
    for name in FINDERS:
        if hasattr(bootstrap, name):
            setattr(bootstrap, name, functools.partial(_find_and_start, getattr(bootstrap, name), startup))


def _find_and_start(find: Callable[..., Any], startup: Callable[[], None], *args: Any) -> Any:
    handler = find(*args)
    startup()
    return handler


def _invocation_under_way() -> Invocation | None:
    """The invocation during which the seam is put in place, when a handler builds its adapter only then."""
    bootstrap: ModuleType | None = sys.modules.get("awslambdaric.bootstrap")
    request_id = getattr(bootstrap, "_GLOBAL_AWS_REQUEST_ID", None)
    return Invocation(request_id) if isinstance(request_id, str) else None


def _require_native() -> None:
    """Import awslambdaric's native module, which awslambdaric goes without if it cannot be imported."""
    try:
        importlib.import_module("runtime_client")
    except ImportError as exception:
        raise SeamError(
            f"awslambdaric {_version()} has no native module here ({exception}): it was installed for another platform "
            "or Python, or built without it. Install awslambdaric for the function's platform and Python, or use the "
            "asyncio runtime, which does not need it: python -m adapter, locally --runtime adapter"
        ) from exception


def _version() -> str:
    return str(getattr(sys.modules.get("awslambdaric"), "__version__", "?"))
