"""What every test may use."""

import signal

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis goes by the clock in two places, and what else the machine does would decide.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

# A shell has its background jobs ignore SIGINT, and each process that they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
