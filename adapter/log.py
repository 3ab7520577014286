"""The package's logger: no handlers, no level; the runtime's are in force (on Lambda, awslambdaric's)."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, cast

from .exceptions import has_more_to_say, related, text_of

if TYPE_CHECKING:
    from typing import Any


class _Logger:
    """The logger ``adapter``, which exists from its first use on.

    ``logging.config`` disables the loggers that exist, unless ``disable_existing_loggers`` is False. Most apps call it
    while they are imported: a failure after the response, which only this logger reports, would not be seen then.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(logging.getLogger("adapter"), name)


logger = cast(logging.Logger, _Logger())


def log_exception(exception: BaseException, message: str, *args: object, to: logging.Logger = logger) -> None:
    """Log an exception with its traceback, whatever its text and its methods do.

    awslambdaric's log handler raises for half a surrogate pair, which any text
    from a JSON event can have: such a traceback is logged as ASCII. Its JSON
    formatter leaves out causes, contexts and the members of a group: the field
    ``exception`` has them.
    """
    text, is_usual = _format(exception)
    try:
        text.encode()
    except UnicodeEncodeError:
        text, is_usual = text.encode("ascii", "backslashreplace").decode(), False
    if is_usual:
        extra = {"exception": text} if has_more_to_say(exception) else None
        try:
            # A tuple: logging takes an exception that is false for none.
            to.error(message, *args, exc_info=(type(exception), exception, exception.__traceback__), extra=extra)
            return
        except Exception:  # awslambdaric's JSON formatter calls the exception's str(), which can fail
            pass
    to.error("%s\n%s", message % args, text)


def _format(exception: BaseException) -> tuple[str, bool]:
    """The traceback, with all related exceptions; and whether `logging`, too, would format it so.

    `traceback` asks each exception whether it is true: it leaves out the causes of one that is not, and fails with one
    that raises.
    """
    try:
        if not any(has_more_to_say(one) and not one for one in related(exception)):
            return "".join(traceback.format_exception(exception)), True
    except Exception:  # of the exception's own methods
        pass
    return "\n".join(map(_format_one, related(exception))), False


def _format_one(exception: BaseException) -> str:
    frames = "".join(traceback.format_tb(exception.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{type(exception).__name__}: {text_of(exception)}\n"


def log_related(exception: BaseException, message: str, *args: object) -> None:
    """Log an exception with its causes and members, if it has some: the runtime reports an error without them."""
    if has_more_to_say(exception):
        log_exception(exception, f"{message}; the runtime reports its error without what has caused it", *args)
