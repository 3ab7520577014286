"""What leaves the event loop: `sys.exit()`, KeyboardInterrupt, `loop.stop()`. It ends the process on Lambda.

Nothing runs on the loop from then on, and Python waits for threads before it exits. A thread that waits for the loop
would keep the process until Lambda kills it, up to 15 minutes later.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import signal
from typing import TYPE_CHECKING

from .log import log_exception
from .termination import CANCEL, EXIT, exit_in
from .worker_threads import before_join

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .work import Work


def exit_process(exception: BaseException, *request_ids: str) -> None:
    """Log what ends the process, which has then half a second for its threads.

    The `atexit` functions come after those, and Python waits for them as ever.

    Raises:
        SystemExit: In place of another exception. Runtimes go on after most of them, and Python would print it again.
    """
    if isinstance(exception, SystemExit):
        status = exception.code if isinstance(exception.code, int) else int(exception.code is not None)
    else:
        status = 128 + signal.SIGINT if isinstance(exception, KeyboardInterrupt) else 1
    where = f" in RequestId {', '.join(map(ascii, request_ids))}" if request_ids else ""
    log_exception(exception, "The process ends with status %d: %s%s", status, type(exception).__name__, where)
    atexit.register(exit_in(EXIT, status).cancel)
    if not isinstance(exception, SystemExit):
        raise SystemExit(status) from None


def end_works(
    loop: asyncio.AbstractEventLoop, exception: BaseException, works: Iterable[Work], *others: asyncio.Task[Any]
) -> None:
    """Cancel what ``exception`` has left pending on a loop that it has stopped, and run the loop for the cleanup.

    Callbacks of tasks that are done are called, too: anyio ends its worker threads by them.
    """
    tasks = set(others)
    for work in works:
        work.state = "expired"  # nobody is to be answered
        tasks.update(work.tasks, work.failed, filter(None, [work.main]))
    for task in tasks:
        task.cancel()
    ended = asyncio.Task(asyncio.wait(tasks, timeout=CANCEL), loop=loop, name="end")
    while not ended.done():
        with contextlib.suppress(BaseException):  # once more the same: of a task that has waited for the first one
            loop.run_until_complete(ended)
        for task in filter(lambda task: has_raised([task], exception), tasks):
            task.exception()  # else asyncio would report it once more
    left = [task for task in tasks if not task.done()]
    if left and before_join is not None:  # they wait for a thread, which would wait for its end by a callback of theirs
        before_join(lambda: loop.run_until_complete(asyncio.Task(asyncio.wait(left), loop=loop)))


def has_raised(tasks: Iterable[asyncio.Task[Any]], exception: BaseException) -> bool:
    """Return whether one of the tasks has raised this exception: asyncio does not say which task has left the loop."""
    # By asyncio's own attribute, since `Task.exception` has asyncio not report what others have raised.
    return any(getattr(task, "_exception", None) is exception for task in tasks)
