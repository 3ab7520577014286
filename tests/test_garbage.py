"""The garbage collector is held off while the asyncio runtime imports an application, and by nothing else."""

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


@pytest.mark.parametrize(("client", "meanwhile"), [("awslambdaric", gc.get_threshold()[0]), ("adapter", 100_000)])
async def test_it_is_held_off_while_the_asyncio_runtime_imports(client: str, meanwhile: int, frozen: int) -> None:
    found = await seen("garbage.handler", client)
    assert found["before"][0] == found["meanwhile"][0] == meanwhile
    assert found["after"] == list(gc.get_threshold())
    assert found["is enabled"]
    assert found["frozen"] > 1000 + frozen


async def test_what_the_application_has_set_stays() -> None:
    found = await seen("garbage.handler", "adapter", env={"OWN": "5000"})
    assert (found["meanwhile"][0], found["after"][0]) == (100_000, 5000)


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
async def test_one_that_is_off_stays_off(client: str, frozen: int) -> None:
    found = await seen("garbage.handler", client, env={"BEFORE": "0"})
    assert (found["meanwhile"][0], found["after"][0], found["frozen"]) == (0, 0, frozen)


async def test_one_that_is_off_when_the_process_begins_stays_off(frozen: int) -> None:
    script = "import gc, sys; gc.set_threshold(0); from adapter.runtime import main; sys.exit(main(['garbage.plain']))"
    async with function("garbage.plain", command=[sys.executable, "-c", script]) as running:
        found = json.loads((await running.api.run({})).result or b"")
    assert (found["before"][0], found["after"][0], found["frozen"]) == (0, 0, frozen)


@pytest.mark.parametrize("handler", ["garbage.plain", "garbage.handler"])
async def test_import_adapter_leaves_it_as_it_is(handler: str) -> None:
    """Under awslambdaric, also where no handler of the adapter's is made."""
    found = await seen(handler)
    assert found["before"] == found["meanwhile"] == found["after"] == list(gc.get_threshold())
    assert found["is enabled"]


def test_nothing_is_different_outside_lambda(frozen: int) -> None:
    script = (
        "import gc; before = gc.get_threshold(); import adapter; adapter.StreamingAdapter(print, lifespan='off');"
        "print(gc.get_threshold() == before, gc.get_freeze_count())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"True {frozen}\n"
