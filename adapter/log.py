"""The package's logger: no handlers, no level; the runtime's are in force (on Lambda, awslambdaric's)."""

from __future__ import annotations

import logging
import traceback


class Logger(logging.Logger):
    """One that ``logging.config`` does not disable, as by default it does all that are there before it.

    Of a failure whose caller has had its answer there is no other word. It is silenced by its level.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass


logger = logging.getLogger("adapter")
logger.__class__ = Logger


def log_exception(exception: BaseException, message: str, *args: object) -> None:
    """Log an exception with its traceback, whatever its text consists of.

    awslambdaric's log handler raises for half a surrogate pair, which any text
    from a JSON event can have: such a traceback is logged as ASCII.
    """
    text = "".join(traceback.format_exception(exception))
    try:
        text.encode()
    except UnicodeEncodeError:
        logger.error("%s\n%s", message % args, text.encode("ascii", "backslashreplace").decode())
    else:
        try:
            logger.error(message, *args, exc_info=exception)
        except Exception:  # awslambdaric's JSON formatter asks the exception for its text, which can fail
            logger.error("%s\n%s", message % args, text)
