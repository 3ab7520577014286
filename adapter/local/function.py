from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from adapter.local.configuration import Configuration
from adapter.local.environment import ENDED, Environment
from adapter.local.invocation import ConcurrencyLimitError, FunctionError, Invocation
from adapter.local.log import Log

# Seconds; https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
INIT_LIMIT = 10.0

# Seconds that an invocation waits for an environment that is about to be free, before another one is started. A caller
# that has just had its answer comes back sooner than the runtime's GET /next does.
GRACE = 0.1


class Place:
    """An environment's place in the pool, with the task that its life is."""

    def __init__(self, environment: Environment) -> None:
        loop = asyncio.get_running_loop()
        self.environment = environment
        self.task: asyncio.Task[None] | None = None
        self.initialised: asyncio.Future[FunctionError | None] = loop.create_future()
        # While idle: the next invocation, or None for the end.
        self.assignment: asyncio.Future[Invocation | None] | None = None
        # Of code that has changed since: it may finish its invocation and takes no other.
        self.stale = False


class Function:
    """A function with as many execution environments as its callers need, up to the cap.

    Each environment's life is a task in `tasks`. `configuration.max_environments` bounds those that can take
    invocations; stale ones that still finish theirs are not counted.
    """

    def __init__(self, configuration: Configuration, log: Log, tasks: asyncio.TaskGroup) -> None:
        self.configuration = configuration
        self._log = log
        self._tasks = tasks
        self._places: set[Place] = set()
        self._starting: set[Place] = set()
        self._idle: list[Place] = []
        self._queue: deque[Invocation] = deque()
        self._closed = False

    def start(self) -> asyncio.Future[FunctionError | None]:
        """Start an environment; the result is the error of its init, None if it went well or took too long."""
        place = Place(Environment(self.configuration, self._log))
        self._places.add(place)
        self._starting.add(place)
        place.task = self._tasks.create_task(self._live(place))
        return place.initialised

    async def invoke(self, invocation: Invocation) -> None:
        """Give the invocation to an environment, or see to it that one comes for it; its `answer` then does.

        First come, first served. At the cap it waits its turn, for `configuration.queue` seconds. Raises
        ConcurrencyLimitError.
        """
        if self._closed:
            close_off(invocation)
            return
        self._queue.append(invocation)
        self._match()
        if self._about_to_be_free and not self._full and not self._provided_for(invocation):
            await asyncio.wait({invocation.taken}, timeout=GRACE)
        if self._full and not self._provided_for(invocation):
            await asyncio.wait({invocation.taken}, timeout=self.configuration.queue)
        if self._provided_for(invocation):
            return
        if self._full:
            self._queue.remove(invocation)
            raise ConcurrencyLimitError
        self.start()

    def reload(self) -> None:
        """The code has changed: every environment ends, busy ones after their invocation, and a new one starts."""
        for place in list(self._places):
            place.stale = True
            if place in self._starting and place.task is not None:
                # Whoever waits for it gets one of those started below.
                self._starting.discard(place)
                place.task.cancel()
        while self._idle:
            self._assign(self._idle.pop(), None)
        for _ in range(min(max(1, len(self._queue)), self.configuration.max_environments)):
            self.start()

    async def close(self) -> None:
        """End every environment; streams in flight are cut, and invocations that wait get an error."""
        self._closed = True
        while self._queue:
            close_off(self._queue.popleft())
        tasks = {place.task for place in self._places if place.task is not None}
        for task in tasks:
            if not task.cancelling():  # A second one would interrupt its cleaning up.
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def _full(self) -> bool:
        return sum(not place.stale for place in self._places) >= self.configuration.max_environments

    @property
    def _about_to_be_free(self) -> bool:
        busy = (place.environment.invocation for place in self._places if not place.stale)
        return any(invocation is not None and invocation.answered for invocation in busy)

    def _provided_for(self, invocation: Invocation) -> bool:
        """Whether an environment has taken it, or one that is starting will."""
        return invocation.taken.done() or self._queue.index(invocation) < len(self._starting)

    def _match(self) -> None:
        while self._queue and self._idle:
            # The one that was used last: the others grow cold, as on Lambda.
            self._assign(self._idle.pop(), self._queue.popleft())

    def _assign(self, place: Place, invocation: Invocation | None) -> None:
        if place.assignment is None:
            raise RuntimeError("an idle environment waits for an assignment")
        place.assignment.set_result(invocation)
        # Known to it from now on: it may be closed before it comes to run it.
        place.environment.invocation = invocation
        if invocation is not None:
            invocation.taken.set_result(None)

    def _replace(self) -> None:
        """An environment has gone, and there may be room for others that the queue waits for."""
        while len(self._starting) < len(self._queue) and not self._full and not self._closed:
            self.start()

    async def _live(self, place: Place) -> None:
        environment = place.environment
        try:
            error = await environment.initialise(INIT_LIMIT)
            self._starting.discard(place)
            place.initialised.set_result(error)
            while not place.stale:
                invocation = await self._next_invocation(place)
                if invocation is None or not await environment.run(invocation):
                    break
        finally:
            self._starting.discard(place)
            self._places.discard(place)
            place.initialised.cancel()
            await environment.close()
        self._replace()

    async def _next_invocation(self, place: Place) -> Invocation | None:
        """Wait, idle and frozen; None if the environment is to end or its process has."""
        assignment: asyncio.Future[Invocation | None] = asyncio.get_running_loop().create_future()
        place.assignment = assignment
        self._idle.append(place)
        self._match()
        if not assignment.done():
            place.environment.freeze()
        exited, idle = place.environment.exited, self.configuration.idle
        ends: set[asyncio.Future[Any]] = {assignment, exited} if exited else {assignment}
        await asyncio.wait(ends, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
        if assignment.done():
            return assignment.result()
        self._idle.remove(place)
        if exited and exited.done():
            self._log.line(f"{place.environment.exit_reason}, between two invocations")
        else:
            self._log.line(f"An environment has had nothing to do for {idle:g} seconds and ends")
        return None


def close_off(invocation: Invocation) -> None:
    """There is nobody any more who could run it."""
    if not invocation.taken.done():
        invocation.taken.set_result(None)
    invocation.fail(ENDED)
    invocation.finish(ENDED)
