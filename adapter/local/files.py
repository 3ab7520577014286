from __future__ import annotations

import os
import stat
from pathlib import Path


class FileError(ValueError):
    """A file cannot be used; a sentence that says which, and why."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{str(path)!r} {fault}")


def read_text(path: Path, limit: int) -> str:
    """Read a regular file. A FIFO or a device, which may have no end, is none.

    Raises FileError, OSError and UnicodeDecodeError.
    """
    # O_NONBLOCK: else a FIFO is waited for that nobody writes to.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileError(path, "is not a regular file")
        data = file.read(limit + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data" or len(data) <= limit:
            raise
        text = ""  # the limit is in the middle of a character
    if len(data) > limit:
        raise FileError(path, f"has more than {limit:,} bytes")
    return text
