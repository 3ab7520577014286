"""What every test may use."""

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis goes by the clock in two places, and what else the machine does would decide.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
