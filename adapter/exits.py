"""What leaves the event loop: `sys.exit()`, KeyboardInterrupt, `loop.stop()`. It ends the process on Lambda.

Nothing runs on the loop from then on, and Python waits for threads before it exits. A thread that waits for the loop
would keep the process until Lambda kills it, up to 15 minutes later.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import signal
import time
from typing import TYPE_CHECKING

from .log import log_exception
from .termination import CANCEL, EXIT, exit_in
from .worker_threads import before_join

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .work import Work


def exit_process(exception: BaseException, *request_ids: str) -> None:
    """Log an exception that ends the process, and end the process even if a thread does not end.

    Threads have `EXIT` seconds. Python then calls the `atexit` functions, and waits for them.

    Raises:
        SystemExit: In place of another exception, after which the runtime client could go on.
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
    """Cancel the tasks that are pending when an exception has left the loop, and run the loop for their cleanup.

    The loop then also calls the callbacks of tasks that are done, by which anyio ends its worker threads.
    """
    tasks = set(others)
    for work in works:
        work.state = "expired"  # nobody is to be answered
        tasks.update(work.tasks, work.failed, filter(None, [work.main]))
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    until = time.monotonic() + 2 * CANCEL  # for a loop that cannot run any more
    ended = asyncio.Task(asyncio.wait(tasks, timeout=CANCEL), loop=loop, name="end")
    while not ended.done() and time.monotonic() < until:
        with contextlib.suppress(BaseException):  # the same exception again: of a task that has waited for the first
            loop.run_until_complete(ended)
        for task in filter(lambda task: has_raised([task], exception), tasks):
            task.exception()  # else asyncio would report it once more
    left = [task for task in tasks if not task.done()]
    if left and before_join is not None:  # they wait for a thread, and their callbacks end that thread
        before_join(lambda: loop.run_until_complete(asyncio.Task(asyncio.wait(left), loop=loop)))


def has_raised(tasks: Iterable[asyncio.Task[Any]], exception: BaseException) -> bool:
    """Return whether one of the tasks has raised this exception: asyncio does not say which task has left the loop."""
    # By asyncio's own attribute, since `Task.exception` has asyncio not report what others have raised.
    return any(getattr(task, "_exception", None) is exception for task in tasks)
