"""What can go wrong, by whose fault it is.

AdapterError
├── ConfigurationError   the caller's: a constructor argument is not one of the choices
├── EventError           the event's: it is malformed; fails that invocation alone
│   └── UnknownEventError    it is no HTTP request, and nothing was said to take it
├── AppError             the application's: it broke the ASGI contract, or wrote to a closed stream
├── DeadlineExceeded     the application's: it was not done in the time that the function has
├── LifespanFailure      the application's: its lifespan startup failed; an init error
├── RuntimeApiError      the platform's: the Runtime API cannot be reached, or answered what it never should
└── SeamError            awslambdaric's: its shape is not one that this package knows
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class AdapterError(Exception):
    """Base of every exception this package raises."""


class ConfigurationError(AdapterError, ValueError):
    """An argument has a value that is not one of the choices; the message names them."""


class EventError(AdapterError, ValueError):
    """The event cannot be read as a request; the message says which field is wrong."""


class UnknownEventError(EventError):
    """No trigger is known that sends an event like this; the message says what came in."""


class AppError(AdapterError, RuntimeError):
    """The application broke the ASGI contract; the message names the message and the state it came in."""


class DeadlineExceeded(AdapterError, TimeoutError):
    """The work was cancelled, a margin before Lambda would have ended the process."""


class LifespanFailure(AdapterError, RuntimeError):
    """The application reported ``lifespan.startup.failed``; the message is the application's own."""


class RuntimeApiError(AdapterError, OSError):
    """The Runtime API could not be reached, or what it sent is not HTTP."""


class SeamError(AdapterError, RuntimeError):
    """awslambdaric does not have the shape that streaming beneath it depends on."""


def text_of(exception: BaseException) -> str:
    """What it says; an exception can fail at that, too."""
    try:
        return str(exception)
    except Exception:
        return "<exception str() failed>"


def quoted(value: object) -> str:
    """Anything from an event, for a message: short, and ASCII, which every log and the Runtime API can take."""
    return _short(_ascii(value))


def shown(value: object, name: str) -> str:
    """As `quoted`, but only the type if the name or the value says that it may be a cookie or a credential."""
    import re

    text = _ascii(value)
    if re.search("auth|cookie|key|secret|token", f"{name} {text}", re.IGNORECASE):
        return f"<{type(value).__name__}, not shown>"
    return _short(text)


def _ascii(value: object) -> str:
    try:
        return ascii(value)
    except RecursionError:
        return "something nested too deep to show"


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."


def related(exception: BaseException) -> Iterator[BaseException]:
    """The exception, and every cause, context and member of a group that can be reached from it, each once."""
    found = {id(exception): exception}
    waiting = [exception]
    for one in waiting:  # which grows meanwhile
        yield one
        members = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        for other in (one.__cause__, one.__context__, *members):
            if other is not None and id(other) not in found:
                found[id(other)] = other
                waiting.append(other)


def has_more_to_say(exception: BaseException) -> bool:
    """Whether its traceback shows other exceptions, too: a cause, a context, the members of a group."""
    return (
        isinstance(exception, BaseExceptionGroup)
        or exception.__cause__ is not None
        or (exception.__context__ is not None and not exception.__suppress_context__)
    )


def repr_of(exception: BaseException) -> str:
    """Its `repr`; an exception can fail at that, too."""
    try:
        return repr(exception)
    except Exception:
        return type(exception).__name__


def is_loggable(exception: BaseException) -> bool:
    """Whether awslambdaric gets over it: where an exception cannot say anything, or says half a surrogate pair, its log
    and its post raise, and the process ends.
    """
    try:
        str(exception).encode()
    except Exception:
        return False
    return True
