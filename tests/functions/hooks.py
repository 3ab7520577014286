"""SnapStart's hooks, of which the one that FAILS names does."""

import os
from typing import Any

from snapshot_restore_py import register_after_restore, register_before_snapshot


def before() -> None:
    if os.environ["FAILS"] == "before":
        raise ValueError("before failed")


def after() -> None:
    raise ValueError("after failed")


register_before_snapshot(before)
register_after_restore(after)


def handler(event: Any, context: Any) -> None:
    raise AssertionError("it is not called")
