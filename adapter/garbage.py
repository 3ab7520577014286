"""The garbage collector, in the init phase: what an application imports stays.

To look for garbage in it while it grows, again and again, is 3 % of the cold start of a FastAPI application; and ever
after each full collection would go through all of it.
"""

from __future__ import annotations

import gc

_SELDOM = 100_000  # objects; an application that imports more of them is not left without a collection
_former: tuple[int, int, int] | None = None


def hold_off() -> None:
    """Collect seldom, while the asyncio runtime imports the application; under awslambdaric the process is not ours."""
    global _former
    if gc.get_threshold()[0]:
        _former = gc.get_threshold()
        gc.set_threshold(_SELDOM, *_former[1:])


def resume() -> None:
    """Collect as before, and leave out what is there now; `gc.unfreeze` puts it back."""
    if _former is not None and gc.get_threshold()[0] == _SELDOM:  # else the application has set it
        gc.set_threshold(*_former)
    if gc.get_threshold()[0]:
        gc.freeze()
