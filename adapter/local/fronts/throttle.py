"""How fast a streamed response may go out. No I/O here."""

from __future__ import annotations

import time
from collections.abc import Callable

# https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html#config-rs-bandwidth: 2 MB a second
# after the first 6 MB; AWS's own server (core/directinvoke/util.go in
# https://github.com/aws/aws-lambda-runtime-interface-emulator) has these numbers, in bytes and seconds.
RATE = 2 * 1024 * 1024
INTERVAL = 0.125


class TokenBucket:
    """Grants `burst` bytes at once; then, every 125 ms, as many more as make 2 MiB a second.

    It never holds more than `burst`: a response that pauses gains no more than that for later. `clock` is in seconds.
    """

    def __init__(self, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._tokens = burst
        self._clock = clock
        self._refilled = clock()

    def take(self, wanted: int) -> int:
        """How many of the wanted bytes may go now; if it is 0, there will be more after `wait` seconds."""
        intervals = int((self._clock() - self._refilled) / INTERVAL)
        self._refilled += intervals * INTERVAL
        self._tokens = min(self._burst, self._tokens + intervals * int(RATE * INTERVAL))
        granted = min(wanted, self._tokens)
        self._tokens -= granted
        return granted

    @property
    def wait(self) -> float:
        return max(0.0, self._refilled + INTERVAL - self._clock())
