"""What a run has found: rows for the table, series for the plots, and the JSON that both are kept in."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

PACKAGES = (
    *("awslambdaric", "mangum", "fastapi", "starlette", "pydantic", "uvicorn"),
    *("uvloop", "httptools", "h11", "orjson"),
)

Limit: TypeAlias = tuple[Literal["most", "least"], float]


class Row(NamedTuple):
    """One comparison: the medians of ours and of its peer, and the median ratio with its spread."""

    section: str
    what: str
    unit: str
    ours: float
    beside: str = ""
    peer: float | None = None
    ratio: tuple[float, float, float] | None = None  # median, least, most
    limit: Limit | None = None  # of the ratio; of ours, where there is no peer

    @property
    def met(self) -> bool | None:
        """Whether the median is within the limit; None where there is none."""
        if self.limit is None:
            return None
        kind, bound = self.limit
        figure = self.ours if self.ratio is None else self.ratio[0]
        return figure <= bound if kind == "most" else figure >= bound

    def cells(self) -> tuple[str, ...]:
        """What the table has: see `COLUMNS`."""
        ratio = target = ""
        if self.ratio is not None:
            middle, least, most = map(number, self.ratio)
            ratio = f"{middle} ({least}-{most})" if least != most else middle
        if self.limit is not None:
            kind, bound = self.limit
            of = "x" if self.ratio is not None else f" {self.unit}"
            target = f"{'<=' if kind == 'most' else '>='} {number(bound)}{of}"
        return (
            self.what,
            f"{number(self.ours)} {self.unit}",
            "" if self.peer is None else f"{number(self.peer)} {self.unit}",
            self.beside,
            ratio,
            target,
            {True: "yes", False: "NO", None: ""}[self.met],
        )


COLUMNS = ("", "ours", "peer", "peer is", "ratio (min-max)", "target", "met")


def compare(
    section: str,
    what: str,
    unit: str,
    ours: Sequence[float],
    beside: str,
    peer: Sequence[float],
    *,
    most: float | None = None,
    least: float | None = None,
) -> Row:
    """A row of figures that were taken in turn: the ratio is the median of the turns' ratios."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    spread = statistics.median(ratios), min(ratios), max(ratios)
    limit: Limit | None = ("most", most) if most is not None else ("least", least) if least is not None else None
    return Row(section, what, unit, statistics.median(ours), beside, statistics.median(peer), spread, limit)


def number(figure: float) -> str:
    """Three digits, as many of them behind the point as there is room for."""
    size = abs(figure)
    if size >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if size >= 10 else f"{figure:.2f}" if size >= 0.1 or not size else f"{figure:.2g}"


class Results:
    """Of one run; what measures something adds to it."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.series: dict[str, Any] = {}

    def document(self, **about: object) -> dict[str, Any]:
        """What is kept as JSON."""
        rows = [{**row._asdict(), "met": row.met} for row in self.rows]
        return {
            **about,
            "machine": machine(),
            "versions": versions(),
            "rows": rows,
            "notes": self.notes,
            "series": self.series,
        }


def rows_of(document: dict[str, Any]) -> list[Row]:
    """The rows of a document that has been through JSON."""
    return [Row(**{name: value for name, value in row.items() if name != "met"}) for row in document["rows"]]


def table(rows: Sequence[Row]) -> str:
    """The rows in columns, by section."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text, section = [], ""
    for row, line in zip([None, *rows], lines, strict=True):
        if row is not None and row.section != section:
            section = row.section
            text += ["", section]
        text.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return "\n".join(text)


def machine() -> dict[str, Any]:
    """The processor, its cores and the memory: no names."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal: *(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory, GiB": round(int(memory[1]) / 2**20) if memory else None,
        "system": f"{platform.system()} {'.'.join(re.findall(r'[0-9]+', platform.release())[:2])}",
    }


def versions() -> dict[str, str]:
    """Python's, and those of the packages that are measured, as far as they are installed."""
    found = {"Python": f"{platform.python_version()}, {_build()}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _build() -> str:
    """How the interpreter was built, which is a fifth of its speed."""
    if "deb_system" in sysconfig.get_scheme_names():
        return "Debian's, with profile-guided and link-time optimization"
    is_optimized = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    return f"built {'with' if is_optimized else 'without'} --enable-optimizations"


def save(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {path}", file=sys.stderr)
