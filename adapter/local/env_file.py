"""Environment variables: those of an env file, and which a process can have."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream
from dotenv.variables import parse_variables

from adapter.local.files import FileError, read_text

# Bytes. Lambda takes 4 kB of variables (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
MAX_FILE = 32 * 1024
# Characters of all values together. Linux takes no single one that has more bytes (MAX_ARG_STRLEN, execve(2)).
MAX_VALUES = 128 * 1024
# Steps that python-dotenv may take to find references: from each `${` it may look as far as the value's end.
MAX_STEPS = 10_000_000


def read_env_file(path: Path) -> Mapping[str, str]:
    """Read variables in lines of NAME=value, where `${NAME}` stands for a value before.

    Raises FileError, OSError and UnicodeDecodeError.
    """
    return parse(path, read_text(path, MAX_FILE))


@functools.lru_cache(maxsize=1)  # asked for several times at a start
def parse(path: Path, text: str) -> Mapping[str, str]:
    """Read the text of an env file. Raises FileError.

    python-dotenv's own function skips what it cannot read, and has no limit for what `${NAME}` comes to.
    """
    known: dict[str, str | None] = {**os.environ}
    values: dict[str, str | None] = {}
    room, steps = MAX_VALUES, MAX_STEPS
    for binding in parse_stream(io.StringIO(text, newline=None)):
        source = binding.original.string
        line = binding.original.line + source[: len(source) - len(source.lstrip())].count("\n")
        if binding.error:
            raise FileError(path, f"has no NAME=value in line {line}")
        if binding.key is None:
            continue
        template, parts = binding.value or "", []
        steps -= template.count("${") * len(template)
        for atom in parse_variables(template) if steps >= 0 else ():
            parts.append(atom.resolve(known))
            room -= len(parts[-1])
            if room < 0:
                break
        if room < 0 or steps < 0:
            raise FileError(path, f"has values that come to too much, from line {line} on")
        # A name without "=" has no value: a process cannot have that.
        value = "".join(parts) if binding.value is not None else None
        known[binding.key] = values[binding.key] = value
        if (fault := find_fault(binding.key, value or "")) is not None:
            raise FileError(path, f"has a variable in line {line} that {fault}")
    return {name: value for name, value in values.items() if value is not None}


def find_fault(name: str, value: str) -> str | None:
    """Say why a process cannot have this variable; returns None if it can."""
    if not name or "=" in name or "\0" in name:
        return "has no name that a process can have"
    if "\0" in value:
        return "has a NUL in its value"
    try:
        size = len(os.fsencode(name)) + len(os.fsencode(value))
    except UnicodeEncodeError:
        return "has characters that no text has"
    return f"has more than {MAX_VALUES:,} bytes" if size > MAX_VALUES - 2 else None
