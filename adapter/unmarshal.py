"""An event's JSON, parsed by orjson where that is installed (extra ``fast``), and always to what `json` makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# orjson makes a float of an integer of more than 64 bits: what has so many digits in a row is not for it.
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0 for byte in range(256))
_TOO_MANY = b"0" * 19
_STEP = 6  # of every sixth byte at least three are digits then, which is quicker to see
_SUSPICIOUS = b"0" * (len(_TOO_MANY) // _STEP)


def reader(strict: Callable[[bytes], Any] | None, lenient: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """``strict`` is the fast one, or None; ``lenient`` takes what that refuses: NaN, half a surrogate pair."""
    if strict is None:
        return lenient

    def read(data: bytes) -> Any:
        # Not by `in`, which takes bytes for a number first, and makes an exception of it.
        if data[::_STEP].translate(_DIGITS).find(_SUSPICIOUS) >= 0 and data.translate(_DIGITS).find(_TOO_MANY) >= 0:
            return lenient(data)
        try:
            return strict(data)
        except ValueError:
            return lenient(data)

    return read
