"""Who waits for a task: what the end of an invocation cancels, and in which order.

asyncio keeps this in private attributes: what a future calls when it is done (``Future._callbacks``), and the task that
has opened a task group (``TaskGroup._parent_task``). Where one is missing, nobody is found to wait for the task. It is
then left to itself, and asyncio alone cancels what a cancelled task awaits.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from types import BuiltinMethodType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from .work import attribute_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    Future: TypeAlias = asyncio.Future[Any]


def group_owners() -> dict[int, int | None]:
    """The ``id`` of each task in one of anyio's task groups, with the ``id`` of the task that opened the group."""
    anyio = sys.modules.get("anyio")
    return {} if anyio is None else {info.id: info.parent_id for info in anyio.get_running_tasks()}


def waiting_tasks(future: Future, ends: Iterable[Future] = ()) -> dict[Future, bool]:
    """The tasks that wait for a future, each with whether it does so behind `asyncio.shield`.

    Through ``gather``, `asyncio.wait` and the like, up to the next task, or to one of the futures in ``ends``.
    """
    found: dict[Future, bool] = {}
    seen, unvisited = {future}, [(future, False)]
    while unvisited:
        future, is_shielded = unvisited.pop()
        for callback, *_ in getattr(future, "_callbacks", None) or ():
            is_shield = is_shielded or str(attribute_of(callback, "__qualname__")).startswith("shield.")
            for waiter in _futures_of(callback):
                if waiter in seen:
                    continue
                seen.add(waiter)
                if isinstance(waiter, asyncio.Task) or waiter in ends:
                    found[waiter] = is_shield
                else:
                    unvisited.append((waiter, is_shield))
    return found


def owned(tasks: Iterable[Future], roots: set[Future]) -> tuple[set[Future], set[Future]]:
    """The tasks that the roots wait for, and those that they wait for behind `asyncio.shield` only.

    Also what those wait for, and so on. A task that anybody else waits for, another request say, is in neither.
    """
    owners, by_id = group_owners(), {id(task): task for task in asyncio.all_tasks()}
    waiters: dict[Future, dict[Future, bool]] = {}
    for task in tasks:
        waiters[task] = waiting_tasks(task, roots)
        owner = by_id.get(owners.get(id(task)) or 0)
        if owner is not None:
            waiters[task][owner] = False
    reached = _closure(waiters, roots, is_shielded=True)
    while others := {task for task in reached - roots if waiters[task].keys() - reached}:
        reached -= others
    waiters = {task: waiters[task] for task in reached - roots}
    plain = _closure(waiters, roots, is_shielded=False)
    return plain - roots, reached - plain


def _closure(waiters: dict[Future, dict[Future, bool]], roots: set[Future], *, is_shielded: bool) -> set[Future]:
    reached = set(roots)
    while more := {
        task
        for task in waiters.keys() - reached
        if any(waiter in reached and is_shield <= is_shielded for waiter, is_shield in waiters[task].items())
    }:
        reached |= more
    return reached


def _futures_of(callback: object) -> Iterator[Future]:
    """The futures that a callback of asyncio's tells of a result."""
    held: Iterable[object] = ()
    if sys.version_info < (3, 12) and isinstance(callback, functools.partial):  # of `asyncio.wait_for`
        held = callback.args
    elif isinstance(callback, FunctionType) and callback.__module__.startswith("asyncio."):
        held = [cell.cell_contents for cell in callback.__closure__ or ()]
    elif isinstance(callback, BuiltinMethodType | MethodType) and callback.__name__ != "cancel":
        held = [callback.__self__, attribute_of(callback.__self__, "_parent_task")]
    for one in held:
        if isinstance(one, asyncio.Future):
            yield one
