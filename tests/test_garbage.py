"""The garbage collector is held off while an application is imported, on Lambda, and is then as it was."""

import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from .runtime_api import function


@pytest.fixture(scope="module")
def frozen() -> int:
    """What Python leaves out itself: 3.12 does some."""
    script = "import gc; print(gc.get_freeze_count())"
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)


async def seen(handler: str, client: str = "awslambdaric", env: Mapping[str, str] | None = None) -> dict[str, Any]:
    async with function(handler, client=client, env=env) as running:
        invoked = await running.api.run({})
    result: dict[str, Any] = json.loads(invoked.result or b"")
    return result


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_it_is_held_off_until_there_is_a_handler(client: str, frozen: int) -> None:
    found = await seen("garbage.handler", client)
    assert found["meanwhile"][0] == 100_000
    assert found["after"] == list(gc.get_threshold())
    assert found["is enabled"]
    assert found["frozen"] > 1000 + frozen


async def test_what_the_application_has_set_stays() -> None:
    found = await seen("garbage.handler", env={"OWN": "5000"})
    assert (found["meanwhile"][0], found["after"][0]) == (100_000, 5000)


async def test_one_that_is_off_stays_off(frozen: int) -> None:
    found = await seen("garbage.handler", env={"BEFORE": "0"})
    assert (found["meanwhile"][0], found["after"][0], found["frozen"]) == (0, 0, frozen)


async def test_without_an_adapter_it_is_seldom(frozen: int) -> None:
    found = await seen("garbage.plain")
    assert (found["after"][0], found["is enabled"], found["frozen"]) == (100_000, True, frozen)


def test_nothing_is_different_outside_lambda(frozen: int) -> None:
    script = (
        "import gc; before = gc.get_threshold(); import adapter; adapter.StreamingAdapter(print, lifespan='off');"
        "print(gc.get_threshold() == before, gc.get_freeze_count())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"True {frozen}\n"
