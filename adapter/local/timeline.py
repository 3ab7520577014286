"""Where an invocation's time went, as one line under its REPORT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.segment import Segment
from rich.style import Style

from adapter.local.invocation import Invocation

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

    from adapter.local.log import Report

TITLE = "TIMELINE"

# A wait that is shorter, in seconds, is only the way through our own tasks.
SHORTEST_WAIT = 0.001

# With fewer cells a bar says nothing. There are never more phases than that.
SHORTEST_BAR = 8


@dataclass(frozen=True)
class Phase:
    """A part of an invocation's time, and how it looks.

    `fill` and `ascii` tell the phases apart where there is no colour. The colours are the terminal's own, which it
    makes fit for its background.
    """

    name: str
    short: str
    key: str
    fill: str
    ascii: str
    colour: str


WAITING = Phase("waiting", "wait", "waitingMs", "·", ".", "yellow")
INIT = Phase("init", "init", "initMs", "░", "=", "magenta")
FIRST_BYTE = Phase("first byte", "first", "firstByteMs", "▒", "-", "cyan")
STREAM = Phase("stream", "stream", "streamMs", "█", "#", "green")
BACKGROUND = Phase("background", "after", "backgroundMs", "▓", "+", "blue")
# All of it, where nobody had an answer to wait for.
RUNNING = Phase("running", "run", "runningMs", "▒", "-", "cyan")


@dataclass(frozen=True)
class Timeline:
    """The phases of an invocation in their order, each with its seconds.

    rich renders it in one line of any width, as a bar with its figures: the bar in proportion within the invocation,
    save that whatever took time has one cell at least. `plain` is the line for where there is no terminal.
    """

    request_id: str
    status: str
    phases: tuple[tuple[Phase, float], ...]

    @classmethod
    def of(cls, invocation: Invocation, report: Report) -> Timeline:
        init = report.init or 0.0
        # A caller that comes during an init, or starts it, waits for it: that much is the init's.
        waiting = invocation.handed_out - invocation.created - init
        phases = []
        if waiting >= SHORTEST_WAIT:
            phases.append((WAITING, waiting))
        if report.init is not None:
            phases.append((INIT, init))
        sent = invocation.sent
        if sent is None:
            phases.append((RUNNING, report.duration))
        else:
            phases.append((FIRST_BYTE, sent.first_byte))
            phases.append((STREAM, sent.ended - sent.first_byte))
            phases.append((BACKGROUND, max(report.duration - sent.ended, 0.0)))
        return cls(invocation.request_id, report.status, tuple(phases))

    @property
    def plain(self) -> str:
        figures = [f"{phase.name} {milliseconds(seconds)} ms" for phase, seconds in self.phases]
        if self.status != "success":
            figures.append(self.status)
        return f"{TITLE} RequestId: {self.request_id}  {' | '.join(figures)}"

    @property
    def record(self) -> dict[str, Any]:
        """As JSON has it; durations in milliseconds."""
        durations = {phase.key: round(seconds * 1000, 3) for phase, seconds in self.phases}
        return {"requestId": self.request_id, "status": self.status, **durations}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """The first of the layouts that leaves the bar enough cells; a narrow terminal has the bar alone."""
        for layout in ([phase.name for phase, _ in self.phases], [phase.short for phase, _ in self.phases], None):
            figures = self._figures(layout, options.ascii_only)
            bar = options.max_width - sum(segment.cell_length for segment in figures) - len(TITLE) - 2
            if bar >= SHORTEST_BAR:
                yield Segment(f"{TITLE} ")
                yield from self._bar(bar, options.ascii_only)
                yield Segment(" ")
                yield from figures
                return
        yield from self._bar(max(options.max_width, SHORTEST_BAR), options.ascii_only)

    def _bar(self, width: int, ascii_only: bool) -> Iterator[Segment]:
        for (phase, _), count in zip(self.phases, cells([seconds for _, seconds in self.phases], width), strict=True):
            yield swatch(phase, ascii_only, count)

    def _figures(self, names: Sequence[str] | None, ascii_only: bool) -> list[Segment]:
        """Each phase's fill, which says what it is in the bar, and its figure in the terminal's own text colour."""
        segments = []
        for number, (phase, seconds) in enumerate(self.phases):
            name = f"{names[number]} " if names is not None else ""
            segments += [swatch(phase, ascii_only), Segment(f" {name}{milliseconds(seconds)} ")]
        segments.append(Segment("ms"))
        if self.status != "success":
            segments += [Segment(" "), Segment(self.status, Style.parse("bold red"))]
        return segments


def swatch(phase: Phase, ascii_only: bool, count: int = 1) -> Segment:
    return Segment((phase.ascii if ascii_only else phase.fill) * count, Style.parse(phase.colour))


def milliseconds(seconds: float) -> str:
    """Three digits or so: 0.4, 5.2, 512, 3600."""
    value = seconds * 1000
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def cells(durations: Sequence[float], width: int) -> list[int]:
    """How many of `width` cells each duration has: in proportion, but one at least for what took any time.

    All are used, if there is any duration and a cell for each.
    """
    counts = [1 if duration > 0 else 0 for duration in durations]
    total = sum(durations)
    for _ in range(width - sum(counts) if total > 0 else 0):
        # The one that is furthest below its share; of two such the longer.
        _, _, neediest = max(
            (width * (duration / total) - count, duration, number)
            for number, (duration, count) in enumerate(zip(durations, counts, strict=True))
            if duration > 0
        )
        counts[neediest] += 1
    return counts
