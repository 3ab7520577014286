"""A function that would run into its timeout ends what it has under way, and the environment lives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import local_lambda
from .test_freezing import until_stopped

APP_DIR = Path(__file__).parents[1] / "functions"


@pytest.mark.parametrize("what", ["background", "thread"])
async def test_thirty_seconds_of_work_under_a_timeout_of_three(what: str) -> None:
    async with local_lambda(
        "aftermath.handler", scripted=False, app_dir=APP_DIR, timeout=3, settings={"LONG": "30"}
    ) as url:
        pid = int((await url.client.get("/pid")).text)
        await until_stopped(pid)
        response = await url.client.get(f"/slow/{what}")
        assert response.status_code == 200
        assert not url.terminal.getvalue().count("Background task")  # it is at it
        await url.terminal.until("^REPORT", 2)
        await until_stopped(pid)
        assert int((await url.client.get("/pid")).text) == pid
    said = {"background": "was cancelled", "thread": "runs in a thread, which cannot be cancelled"}[what]
    assert len(re.findall(rf"Background task aftermath\.long\w* {said}", url.terminal.getvalue())) == 1
    assert "timed out" not in url.terminal.getvalue()
    assert url.terminal.getvalue().count("INIT_START") == 1
