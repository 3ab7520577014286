"""Hundreds of thousands of invocations with all that goes wrong: ``python -m benchmarks.soak --invocations 200000``.

Each mode gets so many: handler mode, the asyncio runtime with one invocation at a time, and with 16 at once as on
Managed Instances. The Runtime API is the soak's own. It counts: every invocation is answered exactly once; memory and
open files are looked at after each 10,000, when nothing is under way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .concurrent_api import Answer, Fault, Processes, RuntimeApi, encoded
from .events import event
from .results import save
from .runtime_api import RIC, RUNTIME

BATCH = 10_000
GROWTH = 1.5  # MB, between the medians of the second and the last quarter: what counts as flat
_DEADLINE = 0.15  # seconds that an invocation which overruns has
_PATIENCE = 60.0  # seconds for an answer
_LOST = (b"was never awaited", b"was destroyed but it is pending")  # what asyncio says of work that nobody waited for


class Mode(NamedTuple):
    """How the function is run."""

    name: str
    command: Sequence[str]
    at_once: int = 1

    @property
    def environment(self) -> dict[str, str]:
        if self.at_once == 1:
            return {}
        return {
            "AWS_LAMBDA_MAX_CONCURRENCY": str(self.at_once),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
        }


MODES = {
    "handler": Mode("handler mode", RIC),
    "runtime": Mode("asyncio runtime", RUNTIME),
    "managed": Mode("asyncio runtime, 16 at once", RUNTIME, 16),
}


class Kind(NamedTuple):
    """A kind of invocation: how often there is one, in 10,000, and whether its stream ends with error trailers."""

    event: bytes
    weight: int
    fails: bool = False
    timeout: float = 60.0


def _get(path: str, query: str = "") -> bytes:
    return encoded(event(path, query))


def _post(path: str, body: str) -> bytes:
    made: dict[str, Any] = json.loads(_get(path))
    made["requestContext"]["http"]["method"] = "POST"
    return encoded({**made, "body": body})


_OVER = f"seconds={_DEADLINE + 0.25}"
KINDS: Mapping[str, Kind] = {
    "well": Kind(_get("/well"), 6487),
    "a body": Kind(_post("/body", "x" * 20_000), 500),
    "in a thread": Kind(_get("/in-thread"), 500),
    "a stream": Kind(_get("/stream"), 800),
    "a large stream": Kind(_get("/large"), 100),
    "an error before the response": Kind(_get("/breaks"), 300),
    "an error in mid-stream": Kind(_get("/stream", "breaks=1"), 300, fails=True),
    "background work": Kind(_get("/background"), 300),
    "an error in background work": Kind(_get("/background", "breaks=1"), 200),
    "an orphan task": Kind(_get("/orphan"), 300),
    "an orphan task that fails": Kind(_get("/orphan", "breaks=1"), 200),
    "no route": Kind(_get("/nothing"), 100),
    "over its deadline": Kind(_get("/sleep", _OVER), 5, timeout=_DEADLINE),
    "over its deadline in mid-stream": Kind(_get("/sleep-in-stream", _OVER), 5, timeout=_DEADLINE),
    "an event that is none": Kind(b'{"Records": []}', 3),
}
FAULTS: Mapping[Fault, int] = {
    "": 9700,
    "reset at the head": 50,
    "reset in the body": 50,
    "refused early": 50,
    "refused": 50,
    "answered late": 50,
    "closed after": 50,
}


class Sample(NamedTuple):
    """After so many invocations, nothing being under way."""

    invocations: int
    seconds: float
    megabytes: float
    descriptors: int


class Soaked(NamedTuple):
    """What became of one mode's invocations."""

    name: str
    at_once: int
    invocations: int
    seconds: float
    answered: dict[str, int]
    wrong: dict[str, int]
    late: int  # answered later than their deadline
    samples: list[Sample]

    @property
    def growth(self) -> float:
        """Megabytes, from the second quarter to the last."""
        quarter = max(len(self.samples) // 4, 1)
        rss = [sample.megabytes for sample in self.samples]
        return statistics.median(rss[-quarter:]) - statistics.median(rss[quarter : 2 * quarter] or rss)

    @property
    def faults(self) -> list[str]:
        """What is not as it should be."""
        found = [f"{what}: {times}" for what, times in self.wrong.items()]
        if (answers := sum(self.answered.values())) != self.invocations:
            found.append(f"{answers:,} answers to {self.invocations:,} invocations")
        if self.growth > GROWTH:
            found.append(f"memory grew by {self.growth:.1f} MB")
        half = len(self.samples) // 2
        if self.samples[half:] and self.samples[:half]:
            before, after = (
                max(sample.descriptors for sample in part) for part in (self.samples[:half], self.samples[half:])
            )
            if after >= before + self.at_once:  # of connections for the posts it may keep as many as are used at once
                found.append(f"open files went from {before} to {after}")
        return found


async def soak(mode: Mode, invocations: int, seed: int, batch: int = BATCH) -> Soaked:
    """Put one function through it."""
    chance = random.Random(seed)
    late = 0
    wrong: Counter[str] = Counter()

    async def one(name: str, fault: Fault) -> None:
        nonlocal late
        kind = KINDS[name]
        future = api.invoke(kind.event, timeout=kind.timeout, fault=fault)
        try:
            answer = await asyncio.wait_for(asyncio.shield(future), _PATIENCE)
        except TimeoutError:
            wrong[f"{name}, {fault or 'no fault'}: never answered"] += 1
            api.give_up(future)
            return
        late += answer.seconds > kind.timeout
        if not fault and not _right(name, answer):
            wrong[f"{name}: {answer.kind}{' with trailers' if answer.failed else ''}"] += 1

    async def worker(names: list[str], faults: list[Fault]) -> None:
        while names:
            await one(names.pop(), faults.pop())

    with tempfile.NamedTemporaryFile() as log:
        async with RuntimeApi() as api:
            api.on_demand = mode.at_once == 1
            command = (*mode.command, "soaked.handler")
            samples: list[Sample] = []
            with Processes(command, api.address, mode.environment, Path(log.name)) as function:
                await _within(60, api.ready(mode.at_once), function, Path(log.name))
                begun, done = time.perf_counter(), 0
                while done < invocations:
                    times = min(batch, invocations - done)
                    names = chance.choices(list(KINDS), [kind.weight for kind in KINDS.values()], k=times)
                    faults = chance.choices(list(FAULTS), list(FAULTS.values()), k=times)
                    workers = asyncio.gather(*(worker(names, faults) for _ in range(mode.at_once)))
                    await _within(600, workers, function, Path(log.name))
                    await _within(30, api.ready(mode.at_once), function, Path(log.name))
                    done += times
                    took = time.perf_counter() - begun
                    samples.append(Sample(done, took, function.rss(), function.descriptors()))
                    _, seconds, megabytes, descriptors = samples[-1]
                    print(
                        f"{mode.name}: {done:,} invocations in {seconds:.0f} s, {done / seconds:,.0f} a second; "
                        f"{megabytes:.1f} MB, {descriptors} open files; wrong: {dict(wrong + api.wrong) or 'nothing'}",
                        flush=True,
                    )
                wrong.update(api.wrong)
        log.seek(0)
        for line in log:
            for said in _LOST:
                wrong[f"'{said.decode()}' in the log"] += said in line
    return Soaked(
        mode.name, mode.at_once, invocations, samples[-1].seconds, dict(api.answered), dict(+wrong), late, samples
    )


def _right(name: str, answer: Answer) -> bool:
    kind = KINDS[name]
    if kind.timeout < 60:  # cancelled at its deadline, by us, or answered late: where nobody enforces it
        return True
    if name == "an event that is none":
        return answer.kind == "error"
    return answer.kind == "response" and answer.failed == kind.fails


async def _within(seconds: float, work: Any, function: Processes, log: Path) -> None:
    """Until the work is done; the function must not end, nor take that long: else what it said last is shown."""
    task = asyncio.ensure_future(work)
    until = time.perf_counter() + seconds
    while not task.done():
        await asyncio.wait((task,), timeout=1)
        status = function.process.poll()
        if not task.done() and (status is not None or time.perf_counter() > until):
            task.cancel()
            _show_end(log)
            raise SystemExit("the function hangs" if status is None else f"the function has ended with {status}")
    task.result()


def _show_end(log: Path) -> None:
    sys.stderr.write(log.read_text(errors="replace")[-4000:])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--invocations", type=int, default=200_000, help="for each mode (200,000)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seed", type=int, default=1, help="of what goes wrong when (1)")
    parser.add_argument("--json", type=Path, help="where to keep the results, for python -m benchmarks.page")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the function is ended
    soaked = [asyncio.run(soak(MODES[name], options.invocations, options.seed)) for name in options.modes]
    for one in soaked:
        answered = ", ".join(f"{times:,} {kind}" for kind, times in one.answered.items())
        print(f"{one.name}: {answered}; {one.late} after their deadline; {one.growth:+.1f} MB")
        print(f"  {'; '.join(one.faults) or 'every invocation answered once, memory and open files flat'}")
    if options.json:
        save({"soak": [{**one._asdict(), "growth": one.growth, "faults": one.faults} for one in soaked]}, options.json)
    sys.exit(any(one.faults for one in soaked))


if __name__ == "__main__":
    main()
