from __future__ import annotations

from adapter.local.fronts.throttle import TokenBucket

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_burst_and_then_2_mib_a_second() -> None:
    clock = Clock()
    bucket = TokenBucket(6 * MIB, clock)
    sent = 0
    while sent < 200 * MIB:
        if granted := bucket.take(64 * 1024):
            sent += granted
        else:
            assert 0 < bucket.wait <= 0.125
            clock.now += bucket.wait
    # (200 - 6) MiB at 2 MiB/s.
    assert clock.now == 1000 + 97


def test_each_interval_brings_its_part() -> None:
    clock = Clock()
    bucket = TokenBucket(MIB, clock)
    assert bucket.take(2 * MIB) == MIB
    assert bucket.take(1) == 0
    clock.now += 0.0625
    assert bucket.take(1) == 0
    assert bucket.wait == 0.0625
    clock.now += 0.0625
    assert bucket.take(MIB) == MIB // 4
    clock.now += 0.25
    assert bucket.take(MIB) == MIB // 2


def test_a_pause_brings_no_more_than_the_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(MIB, clock)
    bucket.take(MIB)
    clock.now += 3600
    assert bucket.take(10 * MIB) == MIB
    assert bucket.take(1) == 0
