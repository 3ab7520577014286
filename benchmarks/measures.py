"""What is measured, and how: ours and its peer in turn, so that both see the same weather."""

import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .runtime_api import ENVIRONMENT, Function, Reply

OURS, MANGUM, MANGUM_WITHOUT, RIC = "ours.handler", "mangums.handler", "mangums.without_lifespan", "trivial.handler"
BARE = ("bare.py", (sys.executable,))


class Row(NamedTuple):
    """One line of the table."""

    what: str
    ours: str
    peer: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None


class Pairs(NamedTuple):
    """Figures of ours and of its peer, taken in turn."""

    ours: Sequence[float]
    peer: Sequence[float]

    def row(self, what: str, form: str, *, most: float | None = None, least: float | None = None) -> Row:
        """The medians in ``form``, the median ratio with its spread, and whether it is within its limit."""
        ratios = [a / b for a, b in zip(self.ours, self.peer, strict=True)]
        ratio = statistics.median(ratios)
        spread = f" ({min(ratios):.2f}-{max(ratios):.2f})" if len(ratios) > 1 else ""
        ours, peer = (form.format(statistics.median(figures)) for figures in self)
        row = Row(what, ours, peer, f"{ratio:.2f}{spread}")
        if most is not None:
            return row._replace(target=f"<= {most:.2f}x", met=ratio <= most)
        if least is not None:
            return row._replace(target=f">= {least:.2f}x", met=ratio >= least)
        return row


def event(path: str, query: str = "") -> dict[str, object]:
    """A function URL's event, of the size that a browser's request makes."""
    host = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws"
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate, br, zstd",
            "accept-language": "en",
            "host": host,
            "user-agent": agent,
            "x-amzn-tls-version": "TLSv1.3",
            "x-amzn-trace-id": "Root=1-5bdb40ca-556d8b0c50dc66f0511bf520",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abcdefghijklmnopqrstuvwxyz012345",
            "domainName": host,
            "domainPrefix": "abcdefghijklmnopqrstuvwxyz012345",
            "http": {
                **{"method": "GET", "path": path, "protocol": "HTTP/1.1"},
                **{"sourceIp": "203.0.113.7", "userAgent": agent},
            },
            "requestId": "9a6a2a0e-0000-4000-8000-000000000000",
            "routeKey": "$default",
            "stage": "$default",
            "time": "23/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795435200000,
        },
        "isBase64Encoded": False,
    }


JSON = event("/items/7", "q=x")


def invoke(function: Function, times: int) -> None:
    """Invoke it with the JSON route, until it asks for the next event."""
    for _ in range(times):
        function.invoke(JSON)
    function.ready()


def cpu(starts: int) -> list[Row]:
    """Processor time of an invocation."""
    fewer = starts // 2
    return [
        _costs(MANGUM, starts).row("CPU per invocation, JSON route", "{:.0f} us", most=0.75),
        _costs(MANGUM_WITHOUT, fewer).row("  beside Mangum with lifespan off", "{:.0f} us"),
        _costs(RIC, fewer).row("  beside awslambdaric with an empty handler", "{:.0f} us"),
    ]


def _costs(handler: str, starts: int, rounds: int = 40, block: int = 25) -> Pairs:
    """Microseconds of ours and of ``handler``: short blocks of invocations in turn, several times with fresh processes.

    A process keeps the luck that it had with its memory's layout, and the machine is not this one's alone.
    """

    def cost(function: Function) -> float:
        before = function.cpu()
        invoke(function, block)
        return (function.cpu() - before) / block * 1e6

    costs = []
    for _ in range(starts):
        with Function(OURS) as ours, Function(handler) as peer:
            invoke(ours, 300)
            invoke(peer, 300)
            turns = zip(*((cost(ours), cost(peer)) for _ in range(rounds)), strict=True)
            costs.append([statistics.median(turn) for turn in turns])
    return Pairs(*zip(*costs, strict=True))


def instructions(few: int = 100, many: int = 600) -> list[Row]:
    """User instructions of an invocation, counted by valgrind: the difference of two runs, almost free of noise."""
    if shutil.which("valgrind") is None:
        return [Row("Instructions per invocation", "no valgrind")]

    def count(handler: str, times: int) -> int:
        with tempfile.NamedTemporaryFile("r") as log:
            valgrind = f"valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file={log.name}".split()
            with Function(handler, [*valgrind, sys.executable, "-m", "awslambdaric"]) as function:
                invoke(function, times)
                function.stop(signal.SIGTERM)
            return int(log.read().partition("Collected :")[2].split()[0])

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(count, (OURS, MANGUM, RIC) * 2, [many] * 3 + [few] * 3))
        first, mangum_first = (number / 1e6 for number in pool.map(count, (OURS, MANGUM), (1, 1)))
    ours, mangum, ric = ((a - b) / (many - few) / 1e3 for a, b in zip(counts[:3], counts[3:], strict=True))
    return [
        Pairs([ours], [mangum]).row("Instructions per invocation (user)", "{:.0f} k", most=0.75),
        Pairs([ours], [ric]).row("  beside awslambdaric with an empty handler", "{:.0f} k"),
        Pairs([first], [mangum_first]).row(
            "Instructions of a cold start, first response included", "{:.1f} M", most=1.0
        ),
    ]


def cold_start(rounds: int) -> list[Row]:
    """From the start of the process to its first ``/next``, and to the end of its first response."""

    def start(handler: str) -> tuple[float, float, float]:
        with Function(handler) as function:
            asked = function.ready()
            answered = asked + function.invoke(JSON).last
            function.ready()
            return asked * 1e3, answered * 1e3, function.cpu() * 1e3

    starts = [start(OURS) + start(MANGUM) for _ in range(rounds + 1)][1:]  # the first one has bytecode to write
    asked, answered, spent, mangum_asked, mangum_answered, mangum_spent = zip(*starts, strict=True)
    imports = zip(*([_import_time(name) for name in ("adapter.asgi", "mangum")] for _ in range(7)), strict=True)
    return [
        Pairs(asked, mangum_asked).row("Cold start, to the first /next", "{:.0f} ms", most=1.0),
        Pairs(answered, mangum_answered).row("Cold start, to the end of the first response", "{:.0f} ms", most=1.0),
        Pairs(spent, mangum_spent).row("  the CPU of it", "{:.0f} ms"),
        Pairs(*imports).row("  import, on top of fastapi and awslambdaric", "{:.1f} ms"),
    ]


def _import_time(name: str) -> float:
    command = [sys.executable, "-X", "importtime", "-c", f"import fastapi, awslambdaric.bootstrap, {name}"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    # A package and its module stand there one beside the other; what they import is further in, and counted with them.
    found = re.findall(rf"\| +(\d+) \| {name.partition('.')[0]}(?:\.\w+)?$", done.stderr, re.MULTILINE)
    return sum(map(int, found)) / 1e3


def streamed(rounds: int, size: int = 200_000_000) -> list[Row]:
    """Many bytes: the memory it takes, and how fast they go beside a bare socket's."""

    def pieces(each: int) -> dict[str, object]:
        return event(f"/pieces/{size // each}", f"size={each}")

    with Function(OURS) as ours, Function(*BARE) as bare:
        invoke(ours, 10)
        ours.forget_peak()
        idle = ours.memory("VmRSS")
        ours.invoke(pieces(64 << 10))
        above = ours.memory("VmHWM") - idle
        rows = [Row("200 MB: peak memory above idle", f"{above:.1f} MB", "", "", "<= 8 MB", above <= 8)]
        for each in (8 << 10, 64 << 10, 1 << 20):
            many = pieces(each)
            rates = _turns(ours, bare, many, rounds, lambda reply: reply.size / (reply.last - reply.first) / 1e6)
            rows.append(
                rates.row(f"200 MB in pieces of {each >> 10} KiB, beside a bare socket", "{:.0f} MB/s", least=0.8)
            )
    return rows


def first_byte(rounds: int) -> list[Row]:
    """How soon there is something for the caller, and how soon the next piece."""
    slow, tokens = event("/pieces/10", f"size=5&pause={1 / 9}"), event("/pieces/1000", "size=5")
    pauses = []

    def each(reply: Reply) -> float:
        pauses.append(reply.longest_pause * 1e3)
        return reply.last * 1e3

    with Function(OURS) as ours, Function(MANGUM) as mangum, Function(*BARE) as bare:
        for function in (ours, mangum):
            invoke(function, 100)
            function.invoke(tokens)  # the first stream of a process imports what streams need
        streams = _turns(ours, mangum, slow, max(rounds // 10, 2), lambda reply: reply.first * 1e3)
        wholes = _turns(ours, mangum, JSON, rounds, lambda reply: reply.last * 1e3)
        chunks = _turns(ours, bare, tokens, max(rounds // 10, 2), each)
    return [
        streams.row("Stream of 1 s, to its first byte", "{:.1f} ms"),
        wholes.row("JSON route, to its last byte", "{:.2f} ms"),
        chunks.row("1,000 tokens at once, beside a bare socket", "{:.1f} us each"),
        Row("  the longest pause between two", f"{statistics.median(pauses[::2]):.2f} ms"),
    ]


def _turns(ours: Function, peer: Function, what: object, rounds: int, figure: Callable[[Reply], float]) -> Pairs:
    pairs = [(figure(ours.invoke(what)), figure(peer.invoke(what))) for _ in range(rounds)]
    return Pairs(*zip(*pairs, strict=True))
