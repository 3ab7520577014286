"""The benchmarks' own parts: the page is made of the figures beside it, and the soak sees what it has to see.

No test here asserts a time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import local, page
from benchmarks.concurrent_api import RuntimeApi
from benchmarks.results import Results, Row, compare, number, rows_of, table
from benchmarks.soak import MODES, Sample, Soaked, soak

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_says_what_its_figures_say() -> None:
    document = json.loads((DOCS / page.JSON).read_text())
    assert (DOCS / page.PAGE).read_text() == page.page(document)


def test_the_plots_of_the_page_are_there() -> None:
    named = re.findall(r"\]\((benchmarks/[\w-]+\.svg)\)", (DOCS / page.PAGE).read_text())
    assert named
    assert sorted(named) == sorted(f"benchmarks/{plot.name}" for plot in (DOCS / page.PLOTS).iterdir())


def test_a_ratio_is_the_median_of_the_turns() -> None:
    row = compare("CPU", "ours", "us", [1.0, 2.0, 9.0], "theirs", [4.0, 4.0, 9.0], most=0.5)
    assert row.ratio == (0.5, 0.25, 1.0)
    assert row.met
    assert compare("CPU", "ours", "us", [1.1], "theirs", [2.0], most=0.5).met is False
    assert compare("rate", "ours", "MB/s", [1.0], "theirs", [2.0], least=0.5).met
    assert Row("memory", "peak", "MB", 9.0, limit=("most", 8.0)).met is False


def test_the_table_is_the_same_after_json() -> None:
    rows = [compare("CPU", "ours", "us", [1234.5], "theirs", [2.0], most=0.75), Row("memory", "peak", "MB", 0.04)]
    document = json.loads(json.dumps({"rows": [{**row._asdict(), "met": row.met} for row in rows]}))
    assert table(rows_of(document)) == table(rows)
    assert "NO" in table(rows)


@pytest.mark.parametrize(
    ("figure", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (1 / 30, "0.033"), (0, "0.00")]
)
def test_three_digits(figure: float, text: str) -> None:
    assert number(figure) == text


@pytest.mark.parametrize("mode", MODES)
async def test_a_short_soak(mode: str) -> None:
    soaked = await soak(MODES[mode], invocations=300, seed=7, batch=100)
    assert soaked.wrong == {}
    assert sum(soaked.answered.values()) == 300
    assert len(soaked.samples) == 3


def test_the_local_lambda_is_measured_beside_uvicorn() -> None:
    results = Results()
    local.measure(results, rounds=1, block=2)
    assert [(row.unit, row.beside) for row in results.rows] == [("a second", "uvicorn (asyncio, h11)")] * 2
    assert all(row.ratio and row.limit and row.limit[0] == "least" for row in results.rows)


async def _talk(api: RuntimeApi, *requests: bytes) -> list[bytes]:
    """Send requests on one connection, one after the other; the first lines of the replies."""
    host, port = api.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    replies = []
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        replies.append(head.split(b"\r\n")[0])
    writer.close()
    return replies


NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n"
RESPONSE = b"POST /2018-06-01/runtime/invocation/8476a536-e9f4-11e8-9739-000000000001/response HTTP/1.1\r\n"
BUFFERED = RESPONSE + b"Content-Length: 2\r\n\r\n{}"
STREAMED = RESPONSE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n8\r\n" + bytes(8) + b"\r\n5\r\nhello\r\n"


async def test_an_answer_is_counted_once() -> None:
    async with RuntimeApi() as api:
        answer = api.invoke(b"{}")
        assert await _talk(api, NEXT, BUFFERED, BUFFERED) == [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 202 Accepted",
            b"HTTP/1.1 400 Bad Request",
        ]
        assert (await answer)[:3] == ("response", 2, False)
        assert api.wrong == {"a second response": 1}


@pytest.mark.parametrize(
    ("end", "failed"),
    [(b"0\r\n\r\n", False), (b"0\r\nLambda-Runtime-Function-Error-Type: Oh\r\n\r\n", True)],
)
async def test_a_stream_is_counted_and_its_trailers_seen(end: bytes, failed: bool) -> None:
    async with RuntimeApi() as api:
        answer = api.invoke(b"{}")
        assert (await _talk(api, NEXT, STREAMED + end))[1] == b"HTTP/1.1 202 Accepted"
        assert (await answer)[:3] == ("response", 5, failed)
        assert not api.wrong


async def test_asking_again_without_an_answer_is_seen() -> None:
    async with RuntimeApi() as api:
        api.invoke(b"{}")
        api.invoke(b"{}")
        await _talk(api, NEXT, NEXT)
        assert api.wrong["/next before an answer"] == 1


def _soaked(megabytes: Sequence[float], descriptors: Sequence[int]) -> Soaked:
    samples = [Sample(n, n, *figures) for n, figures in enumerate(zip(megabytes, descriptors, strict=True), 1)]
    return Soaked("a mode", 1, len(samples), 1.0, {"response": len(samples)}, {}, 0, samples)


@pytest.mark.parametrize(
    ("megabytes", "descriptors", "faults"),
    [
        ([50, 60, 60, 60], [9, 9, 9, 9], []),
        ([50, 60, 65, 70], [9, 9, 9, 9], ["memory grew by 10.0 MB"]),
        ([50, 50, 50, 50], [9, 9, 10, 11], ["open files went from 9 to 11"]),
    ],
)
def test_what_is_not_flat_is_said(megabytes: list[float], descriptors: list[int], faults: list[str]) -> None:
    assert _soaked(megabytes, descriptors).faults == faults
