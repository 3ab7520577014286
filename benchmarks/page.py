"""The results page: ``python -m benchmarks.page results.json …`` writes docs/benchmarks.md and its plots.

Of several results, of several Pythons, the first are the page's, and of the others the targets are beside them; the
soak's can be among them. All figures on the page come out of the JSON, which is kept beside it. What is lost is what
the rows say is lost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .peers import BARE, DIRECT, HANDLER_MODE, LEAST_HANDLER, LEAST_RUNTIME, RIC, RUNTIME_MODE, RUNTIME_PLAIN
from .results import COLUMNS, Row, number, rows_of, save

DOCS = Path(__file__).parents[1] / "docs"
PAGE, JSON, PLOTS = "benchmarks.md", "benchmarks.json", "benchmarks"

_HEAD = """\
# Benchmarks

Made by `make bench` and `python -m benchmarks.page` out of [benchmarks.json](benchmarks.json); nothing here is typed by
hand. Smaller is better, except for rates (a second, MB/s).
"""

_METHOD = """\
## Method

- One FastAPI app and one route, `GET /items/7?q=x` → 21 bytes of JSON, for all that serve it; Node's handler answers
  the same without a framework. The event is a function URL's, of a browser's request.
- Each is a process of its own, driven by a Runtime API of the benchmark's (uvicorn by HTTP requests over one kept-alive
  connection), which does little. All of a section take turns, in short blocks, so that they see the same weather; whole
  processes are started again several times, since a process keeps the luck of its memory's layout. A ratio is the
  median of the turns' ratios, with the least and the most; of CPU, a turn is a start.
- CPU is what the kernel accounts to the process, user and system, all its threads, after it has warmed up. It and cold
  starts are measured with all processes on one core, which is what a function of up to 1,769 MB has: on two, a process
  is charged for waking another one there, and what is measured differs by tens of percent from run to run. For streams
  the function has a core and the Runtime API the other: a rate is what both of them and the kernel's network between
  them take, and differs by half from run to run. So does the CPU of the same bytes, most of which is the kernel's.
- The tables of targets say how the Python that ran was built: what it is spared by profile-guided optimization is not
  the same share of ours and of the peers'. Distributions and container images build it so. ASSUMPTION: so does Lambda.
- A *def route* answers the same from a worker thread of anyio; the other route answers from the event loop, and runs an
  empty `def` function as a BackgroundTask, which has to be done before the next `/next`.
- *An app that does nothing* is an ASGI function that answers with the same 21 bytes: what differs is the adapters' own.
- *…and an ASGI call, nothing else* is the least that an adapter can do: the scope is made beforehand, nothing of an
  event is read but its path, nothing is checked, and the reply has no headers.
- A cold start is from the start of the process, with its bytecode compiled, to its first `/next`, and to the end of the
  first response. The framework is most of it, and the same in all.
- *A bare socket* is a loop of blocking `sendall`: no framework; framing only where tokens are told apart. *An ASGI
  call, no transport* is the app called in a loop with a `send` that drops what it is given.
- The local Lambda and uvicorn serve the same app, and are asked over one kept-alive connection, one request after the
  other. The local Lambda has one environment, which it freezes between two invocations; uvicorn answers in one process.
- Managed Instances: both are given the same concurrency, all 64 at once; memory is the proportional set size of all
  processes, while all are at work. awslambdaric runs the app by Mangum. One process with one event loop computes on one
  core; 64 processes compute on all that there are: "on all cores" says what that is worth.
"""


def page(document: dict[str, Any]) -> str:
    """The page, Markdown."""
    return "\n".join(_lines(document))


def _lines(document: dict[str, Any]) -> Iterator[str]:
    rows = rows_of(document)
    yield _HEAD
    if document["quick"]:
        yield "**A quick run: too few rounds to go by.**\n"
    yield f"## Targets\n\nWith Python {document['versions']['Python']}:\n"
    yield from _table(_targets(rows))
    for other in document.get("others", ()):
        yield f"\nThe same with Python {other['versions']['Python']}:\n"
        yield from _table(_targets(rows_of(other)))
    yield "\n## What we lose\n"
    yield from _losses(rows)
    for other in document.get("others", ()):
        yield f"\nWith Python {other['versions']['Python']}:\n"
        yield from _losses(row for row in rows_of(other) if row.limit is not None)
    sections = dict.fromkeys(row.section for row in rows)
    plotted = _PLOTTED.copy()
    for section in sections:
        yield f"\n## {section}\n"
        for name in plotted.pop(section.split(",")[0], ()):
            if _SERIES[name] in document["series"]:
                yield f"![{name}]({PLOTS}/{name}.svg)\n"
        yield from _table(row for row in rows if row.section == section)
        if section == "Cold start":
            yield from _imports(document["series"]["imports"])
    if document.get("soak"):
        yield from _soak(document["soak"])
    yield "\n" + _METHOD
    yield "## Machine and versions\n"
    yield "| | |\n|---|---|"
    for about in (document["machine"], document["versions"], document["weather"]):
        yield from (f"| {name} | {value} |" for name, value in about.items())
    yield f"| the run took, s | {document['seconds']} |"
    yield from (f"\n{note}" for note in document["notes"])


def _targets(rows: Iterable[Row]) -> Iterator[Row]:
    return (row._replace(what=f"{row.section}: {row.what.strip()}") for row in rows if row.limit is not None)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---" * len(COLUMNS) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.strip() for cell in row.cells()) + " |"


_FLOORS = (DIRECT, RIC, BARE, LEAST_HANDLER, LEAST_RUNTIME)
"""Peers that nothing which does more can be below."""


def _losses(rows: Iterable[Row]) -> Iterator[str]:
    """Targets that are missed, and comparisons that come out against us."""
    none = True
    for row in rows:
        more_is_better = row.unit in ("MB/s", "a second")
        worse = row.ratio is not None and (row.ratio[0] < 1) == more_is_better and row.ratio[0] != 1
        floor = row.beside in _FLOORS
        if row.met is False or (worse and not floor and row.met is None):
            ratio = "" if row.ratio is None else f"{number(row.ratio[0])} × {row.beside}'s"
            missed = f"; the target is {row.cells()[5]}" if row.met is False else ""
            figure = f"{number(row.ours)} {row.unit}"
            yield f"- {row.section}: {row.what.strip()}: {figure}{', ' + ratio if ratio else ''}{missed}."
            none = False
    if none:
        yield "Nothing that was measured."


def _imports(imports: dict[str, dict[str, float]]) -> Iterator[str]:
    yield "\nImports on top of FastAPI and awslambdaric, and awslambdaric itself: `-X importtime`, ms of each module.\n"
    yield "| | total | of which |"
    yield "|---|---|---|"
    for name, modules in imports.items():
        rest = [f"{module} {number(took)}" for module, took in modules.items() if module != "total" and took >= 0.01]
        yield f"| {name} | {number(modules['total'])} | {', '.join(rest)} |"


def _soak(soaked: list[dict[str, Any]]) -> Iterator[str]:
    yield "\n## Soak\n"
    yield (
        "`python -m benchmarks.soak`: errors before, during and after the response, refused and cut responses, "
        "deadlines, background work, orphan tasks, at random.\n"
    )
    yield "![soak](benchmarks/soak.svg)\n"
    yield "| | invocations | answered | a second | memory, second quarter to last | open files, last | wrong |"
    yield "|---|---|---|---|---|---|---|"
    for one in soaked:
        last = one["samples"][-1]
        yield (
            f"| {one['name']} | {one['invocations']:,} | {sum(one['answered'].values()):,} "
            f"| {number(one['invocations'] / one['seconds'])} | {one['growth']:+.1f} MB of {last[2]:.0f} | {last[3]} "
            f"| {'; '.join(one['faults']) or 'nothing'} |"
        )


_SERIES = {"cpu": "cpu", "cold-start": "cold start", "tokens": "tokens", "managed": "managed"}
_PLOTTED: dict[str, list[str]] = {
    "CPU per invocation": ["cpu"],
    "Cold start": ["cold-start"],
    "Streams": ["tokens"],
    "Managed Instances": ["managed"],
}
"""The plots of a section, by the first words of its name; they stand in the first that begins so."""


def plots(document: dict[str, Any], directory: Path) -> None:
    """Draw what the document has series for, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    series = document["series"]
    directory.mkdir(exist_ok=True)
    colours = {HANDLER_MODE: "#1f77b4", RUNTIME_MODE: "#0b3d91", RUNTIME_PLAIN: "#6baed6"}

    def colour(name: str) -> str:
        return colours.get(name, "#b0b0b0" if name in _FLOORS else "#d98c3f")

    def finish(figure: Any, name: str) -> None:
        figure.tight_layout()
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)

    if costs := series.get("cpu"):
        figure, axes = pyplot.subplots(figsize=(7.5, 3.6))
        for place, (name, (median, least, most)) in enumerate(sorted(costs.items(), key=lambda item: -item[1][0])):
            spread = [[median - least], [most - median]]
            axes.barh(place, median, xerr=spread, color=colour(name), error_kw={"elinewidth": 0.8})
        axes.set_yticks(range(len(costs)), [name for name, _ in sorted(costs.items(), key=lambda item: -item[1][0])])
        axes.set_xlabel("microseconds of CPU per invocation: median, least and most of the starts")
        finish(figure, "cpu")

    if starts := series.get("cold start"):
        figure, axes = pyplot.subplots(figsize=(7.5, 2.2))
        for place, (name, (asked, answered, _)) in enumerate(starts.items()):
            axes.barh(place, asked, color=colour(name))
            axes.barh(place, answered - asked, left=asked, color=colour(name), alpha=0.5)
        axes.set_yticks(range(len(starts)), list(starts))
        axes.set_xlabel("milliseconds to the first /next; pale: to the end of the first response")
        finish(figure, "cold-start")

    if tokens := series.get("tokens"):
        figure, axes = pyplot.subplots(figsize=(7.5, 3))
        for name, curve in tokens.items():
            axes.plot([place / len(curve) * 100 for place in range(len(curve))], curve, color=colour(name), label=name)
        axes.set_yscale("log")
        axes.set_xlabel("percentile of the time between two of 10,000 tokens, sent as fast as they come")
        axes.set_ylabel("microseconds")
        axes.legend()
        finish(figure, "tokens")

    if managed := series.get("managed"):
        figure, both = pyplot.subplots(1, 2, figsize=(7.5, 1.8), sharey=True)
        for axes, (field, label) in zip(
            both, (("pss", "MB together (log)"), ("cold", "s of cold start (log)")), strict=True
        ):
            for place, (name, figures) in enumerate(managed.items()):
                axes.barh(place, figures[field], color=colour(name))
                axes.text(figures[field], place, f" {number(figures[field])}", va="center")
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.margins(x=0.2)
            axes.set_yticks(range(len(managed)), list(managed))
        finish(figure, "managed")

    if soaked := document.get("soak"):
        figure, axes = pyplot.subplots(figsize=(7.5, 2.8))
        for one in soaked:
            axes.plot(
                [sample[0] for sample in one["samples"]], [sample[2] for sample in one["samples"]], label=one["name"]
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("invocations")
        axes.set_ylabel("resident memory, MB")
        axes.legend()
        finish(figure, "soak")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument(
        "json", type=Path, nargs="+", help="what `python -m benchmarks --json` and the soak have written"
    )
    document: dict[str, Any] = {"others": []}
    for path in parser.parse_args().json:
        found = json.loads(path.read_text())
        if "rows" in found and "rows" in document:
            document["others"].append({"versions": found["versions"], "rows": found["rows"]})
        else:
            document |= found
    plots(document, DOCS / PLOTS)
    (DOCS / PAGE).write_text(page(document))
    save(document, DOCS / JSON)
    print(f"written: {DOCS / PAGE}, {DOCS / PLOTS}", file=sys.stderr)


if __name__ == "__main__":
    main()
