from __future__ import annotations

import asyncio
import time
from typing import Any

from adapter.local.configuration import Configuration
from adapter.local.invocation import FunctionError, Invocation, UnavailableError
from adapter.local.log import Log
from adapter.local.managed_environment import ManagedEnvironment
from adapter.local.managed_runtime_api import Slot

# Seconds after the init that a request waits for workers that have yet to ask for their first event, each of which
# loads the function for itself. ASSUMPTION: Lambda sends an instance nothing that its workers cannot take yet.
WORKERS_LIMIT = 10.0


class Place:
    """An environment with the task that its life is, and with its invocations."""

    def __init__(self, environment: ManagedEnvironment) -> None:
        self.environment = environment
        self.task: asyncio.Task[None] | None = None
        self.initialised: asyncio.Future[FunctionError | None] = asyncio.get_running_loop().create_future()
        self.initialised_at = 0.0
        # Its code has changed since, or its process has ended: it takes no further invocation.
        self.over = asyncio.Event()
        self.runs: set[asyncio.Task[None]] = set()


class ManagedInstance:
    """A function as on Lambda Managed Instances: one environment for `configuration.concurrency` invocations at a time
    (https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html).

    The environment's life, and each invocation, is a task in `tasks`. When its process ends, so does the environment;
    the next request starts another one.
    """

    def __init__(self, configuration: Configuration, log: Log, tasks: asyncio.TaskGroup) -> None:
        self.configuration = configuration
        self._log = log
        self._tasks = tasks
        self._places: set[Place] = set()
        self._current: Place | None = None
        self._closed = False

    def start(self) -> asyncio.Future[FunctionError | None]:
        """Start an environment; the result is the error of its init, None if it went well."""
        return self._start().initialised

    async def invoke(self, invocation: Invocation) -> None:
        """Give the invocation to a worker; its `answer` then comes.

        Raises UnavailableError: none asked for an event within `configuration.queue` seconds.
        """
        while not self._closed:
            place = self._current or self._start()
            await asyncio.wait({place.initialised})
            if place.initialised.cancelled():
                continue
            error = place.initialised.result()
            if error is not None:
                invocation.fail(error)
                invocation.finish(error)
                return
            slot = await self._slot(place)
            if slot is not None:
                invocation.taken.set_result(None)
                run = self._tasks.create_task(place.environment.run(slot, invocation))
                place.runs.add(run)
                run.add_done_callback(place.runs.discard)
                return
        raise UnavailableError

    def reload(self) -> None:
        """The code has changed: the environment ends, after its invocations, and a new one starts."""
        place = self._current
        if place is not None:
            place.over.set()
            if not place.initialised.done() and place.task is not None:
                # Whoever waits for it gets the one started below.
                place.task.cancel()
        self._start()

    async def close(self) -> None:
        """End it at once; streams in flight are cut."""
        self._closed = True
        tasks = {place.task for place in self._places if place.task is not None}
        for task in tasks:
            if not task.cancelling():  # A second one would interrupt its cleaning up.
                task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _start(self) -> Place:
        self._current = place = Place(ManagedEnvironment(self.configuration, self._log))
        self._places.add(place)
        place.task = self._tasks.create_task(self._live(place))
        return place

    async def _slot(self, place: Place) -> Slot | None:
        """A worker that waits for an event; None if the environment is over. Raises UnavailableError."""
        limit = self.configuration.queue
        if place.environment.workers < (self.configuration.concurrency or 1):
            limit = max(limit, place.initialised_at + WORKERS_LIMIT - time.monotonic())
        idle = asyncio.create_task(place.environment.idle.get())
        over = asyncio.create_task(place.over.wait())
        try:
            await asyncio.wait({idle, over}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if place.over.is_set():
                return None
            if idle.done():
                return idle.result()
            raise UnavailableError
        finally:
            idle.cancel()
            over.cancel()

    async def _live(self, place: Place) -> None:
        environment = place.environment
        try:
            error = await environment.initialise()
            place.initialised_at = time.monotonic()
            if error is not None:
                self._forget(place)
            place.initialised.set_result(error)
            if error is not None:
                return
            over = asyncio.create_task(place.over.wait())
            ends: set[asyncio.Future[Any]] = {over, environment.exited}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                over.cancel()
            self._forget(place)
            if environment.exited.done() and not place.runs:
                self._log.line(f"{environment.exit_reason}, between two invocations")
            if place.runs:
                await asyncio.wait(place.runs)
        finally:
            self._forget(place)
            place.initialised.cancel()
            for run in place.runs:
                run.cancel()
            await environment.close()
            self._places.discard(place)

    def _forget(self, place: Place) -> None:
        """It takes no further invocation."""
        place.over.set()
        if self._current is place:
            self._current = None
