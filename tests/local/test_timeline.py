import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from adapter.local.invocation import Invocation, Sent
from adapter.local.log import Log, Report
from adapter.local.timeline import (
    BACKGROUND,
    FIRST_BYTE,
    INIT,
    RUNNING,
    SHORTEST_BAR,
    STREAM,
    WAITING,
    Phase,
    Timeline,
    cells,
    milliseconds,
)

COLD = ((INIT, 0.512), (FIRST_BYTE, 0.0052), (STREAM, 3.6), (BACKGROUND, 5.003))


class Teletype(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rich learns of a terminal from the environment."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "85")


def timeline(phases: Sequence[tuple[Phase, float]] = COLD, status: str = "success") -> Timeline:
    return Timeline("an-id", status, tuple(phases))


def rendered(width: int, timeline: Timeline) -> str:
    """The text of the line, without colours."""
    terminal = Console(file=io.StringIO(), width=width, record=True)
    terminal.print(timeline, end="")
    return terminal.export_text()


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=6), st.integers(6, 200))
def test_cells(durations: list[float], width: int) -> None:
    counts = cells(durations, width)
    assert [count > 0 for count in counts] == [duration > 0 for duration in durations]
    assert sum(counts) == (width if any(durations) else 0)
    ordered = sorted(zip(durations, counts, strict=True))
    assert [count for _, count in ordered] == sorted(counts)


@pytest.mark.parametrize(
    ("durations", "width", "counts"),
    [
        ([1, 1, 2], 8, [2, 2, 4]),
        ([0.001, 5, 0], 10, [1, 9, 0]),
        ([0.5, 0.001, 3.5, 5], 18, [1, 1, 7, 9]),
    ],
)
def test_cells_are_in_proportion(durations: list[float], width: int, counts: list[int]) -> None:
    assert cells(durations, width) == counts


@given(
    st.lists(
        st.tuples(st.sampled_from([WAITING, INIT, FIRST_BYTE, STREAM, BACKGROUND]), st.floats(0, 900)),
        min_size=1,
        max_size=5,
        unique_by=lambda phase: phase[0].name,
    ),
    st.sampled_from(["success", "failure", "error", "timeout"]),
    st.integers(SHORTEST_BAR, 200),
)
def test_one_line_of_the_terminals_width(phases: list[tuple[Phase, float]], status: str, width: int) -> None:
    line = rendered(width, timeline(phases, status))
    assert len(line) <= width
    assert line.count("\n") == 0
    if any(seconds for _, seconds in phases):
        assert len(line) == width


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (90, "TIMELINE ░▒███████▓▓▓▓▓▓▓▓▓ ░ init 512 ▒ first byte 5.2 █ stream 3600 ▓ background 5003 ms"),
        (80, "TIMELINE ░▒██▓▓▓▓ ░ init 512 ▒ first byte 5.2 █ stream 3600 ▓ background 5003 ms"),
        (70, "TIMELINE ░▒██▓▓▓▓ ░ init 512 ▒ first 5.2 █ stream 3600 ▓ after 5003 ms"),
        (48, "TIMELINE ░▒███▓▓▓▓▓ ░ 512 ▒ 5.2 █ 3600 ▓ 5003 ms"),
        (20, "░▒███████▓▓▓▓▓▓▓▓▓▓▓"),
    ],
)
def test_layouts(width: int, line: str) -> None:
    assert rendered(width, timeline()) == line


async def on_a_terminal(status: str = "success") -> str:
    """What Log.end writes to a terminal, below END and REPORT."""
    stream = Teletype()
    invocation = Invocation(b"{}", "arn", "an-id", "trace")
    invocation.handed_out = invocation.created
    invocation.sent = Sent(200, first_byte=1.0, ended=4.0, size=1)
    report = Report(duration=9.0, memory=128, max_memory=50, init=0.5, status=status, error_type=None)
    Log(stream).end(invocation, report)
    end, lambdas_report, line = stream.getvalue().splitlines()
    assert "\x1b" not in end + lambdas_report
    return line


async def test_colours_are_the_terminals_own(terminal_variables: None) -> None:
    assert re.findall(r"\x1b\[([\d;]+)m", await on_a_terminal()) == [*["35", "0", "36", "0", "32", "0", "34", "0"] * 2]
    assert (await on_a_terminal("timeout")).endswith("5000 ms \x1b[1;31mtimeout\x1b[0m")


async def test_no_color(terminal_variables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    line = await on_a_terminal()
    assert line == "TIMELINE ░▒████▓▓▓▓▓▓ ░ init 500 ▒ first byte 1000 █ stream 3000 ▓ background 5000 ms"


def test_terminal_that_has_no_blocks() -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    Console(file=stream, width=80).print(timeline(), end="")
    stream.flush()
    line = buffer.getvalue().decode("ascii")
    assert re.fullmatch(r"TIMELINE =+-#+\++ = init 512 - first byte 5.2 # stream 3600 \+ background 5003 ms", line)


def test_plain_line() -> None:
    figures = "init 512 ms | first byte 5.2 ms | stream 3600 ms | background 5003 ms"
    assert timeline().plain == f"TIMELINE RequestId: an-id  {figures}"
    assert timeline(status="timeout").plain == f"TIMELINE RequestId: an-id  {figures} | timeout"


@pytest.mark.parametrize(
    ("seconds", "figure"),
    [(0, "0.0"), (0.00004, "0.0"), (0.00949, "9.5"), (0.00996, "10"), (0.5, "500"), (900, "900000")],
)
def test_milliseconds(seconds: float, figure: str) -> None:
    assert milliseconds(seconds) == figure


async def test_phases_of_an_invocation() -> None:
    invocation = Invocation(b"{}", "arn", "an-id", "trace")
    cold = Report(duration=9.0, memory=128, max_memory=50, init=0.5, status="success", error_type=None)
    warm = Report(duration=9.0, memory=128, max_memory=50, init=None, status="success", error_type=None)
    invocation.created, invocation.handed_out = 100.0, 100.0001
    assert Timeline.of(invocation, warm).phases == ((RUNNING, 9.0),)
    invocation.sent = Sent(200, first_byte=1.0, ended=4.0, size=1)
    answered = ((FIRST_BYTE, 1.0), (STREAM, 3.0), (BACKGROUND, 5.0))
    assert Timeline.of(invocation, warm).phases == answered
    # The environment had been started before the invocation came, or for it.
    assert Timeline.of(invocation, cold).phases == ((INIT, 0.5), *answered)
    invocation.handed_out = 100.5
    assert Timeline.of(invocation, cold).phases == ((INIT, 0.5), *answered)
    # It had stood in the queue before, or did so for a busy one.
    invocation.handed_out = 100.75
    assert Timeline.of(invocation, cold).phases == ((WAITING, 0.25), (INIT, 0.5), *answered)
    assert Timeline.of(invocation, warm).phases == ((WAITING, 0.75), *answered)


async def test_an_answer_that_was_the_last_of_it() -> None:
    """Of a timeout the caller is told when the invocation's time has been taken."""
    invocation = Invocation(b"{}", "arn", "an-id", "trace")
    invocation.handed_out = invocation.created
    invocation.sent = Sent(502, first_byte=3.01, ended=3.02, size=21)
    report = Report(duration=3.0, memory=128, max_memory=50, init=None, status="timeout", error_type=None)
    assert Timeline.of(invocation, report).phases[-1] == (BACKGROUND, 0.0)
    assert Timeline.of(invocation, report).plain.endswith(" | background 0.0 ms | timeout")


async def test_where_there_is_no_terminal_there_are_no_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream = io.StringIO()
    invocation = Invocation(b"{}", "arn", "an-id", "trace")
    invocation.handed_out = invocation.created
    report = Report(duration=1.0, memory=128, max_memory=50, init=None, status="success", error_type=None)
    Log(stream).end(invocation, report)
    assert stream.getvalue().splitlines()[2:] == ["TIMELINE RequestId: an-id  running 1000 ms"]
    assert b"TIMELINE" not in bytes(invocation.tail)
