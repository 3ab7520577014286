"""Logs on every level, within an invocation and before."""

import logging
from typing import Any

logger = logging.getLogger("function")
logger.warning("init")


def handler(event: Any, context: Any) -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "at %d é", level, extra={"order": 7})
    try:
        raise ValueError("caught")
    except ValueError:
        logger.exception("it was")
    context.log("by the context\n")
    print("printed")
