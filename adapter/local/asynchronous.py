"""Asynchronous invocations: the caller is gone, and Lambda tries again what fails.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid

from adapter.local.invocation import ConcurrencyLimitError, FunctionError, Invocable, Invocation, describe
from adapter.local.log import Log

# Seconds that Lambda waits after the first attempt and after the second; the third is the last.
RETRY_WAITS = (60.0, 120.0)
ATTEMPTS = len(RETRY_WAITS) + 1
# How many times shorter these waits are here: nobody at a terminal waits for minutes.
HASTE = 60

# Seconds before a throttled event is tried again, doubled each time up to the maximum. They are Lambda's, and so is the
# age at which an event that still has not found an environment is discarded.
THROTTLE_WAIT = 1.0
MAX_THROTTLE_WAIT = 300.0
MAX_AGE = 6 * 60 * 60.0


class EventQueue:
    """The events of asynchronous invocations, each in the care of a task of its own in `tasks` until it is through.

    An attempt fails if its invocation does, be it after its response: a timeout in background work is a failure too
    (ASSUMPTION: Lambda looks at the invocation's outcome, not at the response). All attempts have one request id.
    An event that has failed for good is discarded: there are no dead-letter queues and destinations here.
    """

    def __init__(self, function: Invocable, log: Log, tasks: asyncio.TaskGroup) -> None:
        self._function = function
        self._log = log
        self._tasks = tasks
        self._events: set[asyncio.Task[None]] = set()
        self._closed = False

    def put(self, invocation: Invocation) -> None:
        """Take the event of an invocation, which becomes the first attempt; after `close` it is forgotten at once."""
        if self._closed:
            return
        task = self._tasks.create_task(self._attempts(invocation))
        self._events.add(task)
        task.add_done_callback(self._events.discard)

    def close(self) -> None:
        """Forget every event, also those in the middle of an attempt."""
        self._closed = True
        for task in self._events:
            task.cancel()

    async def _attempts(self, invocation: Invocation) -> None:
        arrived = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            taken = await self._taken(invocation, arrived)
            if taken is None:
                return
            error = await outcome(taken)
            if error is None:
                return
            failed = f"failed, attempt {attempt} of {ATTEMPTS}: {describe(error)}"
            if attempt == ATTEMPTS:
                self._line(invocation, f"{failed}. The event is discarded")
                return
            wait = RETRY_WAITS[attempt - 1]
            self._line(invocation, f"{failed}. Again in {wait / HASTE:g} s (on Lambda in {wait:g} s)")
            await asyncio.sleep(wait / HASTE)
            invocation = again(invocation)

    async def _taken(self, invocation: Invocation, arrived: float) -> Invocation | None:
        """The invocation, when the function has taken it; None if it is too old by then. A throttle is no attempt."""
        wait = THROTTLE_WAIT
        while True:
            try:
                await self._function.invoke(invocation)
            except ConcurrencyLimitError:
                if time.monotonic() - arrived + wait > MAX_AGE:
                    self._line(invocation, f"throttled for {MAX_AGE:g} s. The event is discarded")
                    return None
                self._line(invocation, f"throttled: every environment is busy. Again in {wait:g} s")
                await asyncio.sleep(wait)
                wait = min(2 * wait, MAX_THROTTLE_WAIT)
                invocation = again(invocation)
            else:
                return invocation

    def _line(self, invocation: Invocation, text: str) -> None:
        self._log.line(f"RequestId: {invocation.request_id} Asynchronous invocation {text}")


def again(invocation: Invocation) -> Invocation:
    """The same event and request id once more, under an invocation id of its own."""
    return dataclasses.replace(invocation, invocation_id=str(uuid.uuid4()))


async def outcome(invocation: Invocation) -> FunctionError | None:
    """Wait for the end of the invocation, whose answer nobody reads; its error if it failed."""
    await asyncio.shield(invocation.answer)  # `close` cancels this task; the Runtime API may still set the answer.
    invocation.delivered()
    await invocation.finished.wait()
    return invocation.outcome
