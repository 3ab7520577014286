"""The current invocation, wherever code asks for it."""

import contextvars
import json
import logging
import re

import pytest

from adapter import current_invocation, log_filter
from adapter.invocation import Invocation, enter, leave
from adapter.work import Rules, Work

from .events import function_url
from .runtime_api import function


class Context:
    aws_request_id = "an id"
    tenant_id = "a tenant"


def test_there_is_one_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.invocation._latest", None)
    assert current_invocation() is None
    record = logging.makeLogRecord({})
    assert log_filter(record)
    assert (vars(record)["aws_request_id"], vars(record)["trace_id"], vars(record)["tenant_id"]) == ("", "", "")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-2")
    context = Context()
    token = enter(Invocation("an id", context=context))
    invocation = current_invocation()
    assert isinstance(invocation, Invocation)
    assert repr(invocation) == "<Invocation 'an id'>"
    assert (invocation.request_id, invocation.trace_id, invocation.tenant_id) == ("an id", "Root=1-2", "a tenant")
    assert invocation.context is context
    assert log_filter(record)
    assert (vars(record)["aws_request_id"], vars(record)["trace_id"]) == ("an id", "Root=1-2")
    leave(token)


def test_one_that_is_over_is_the_one_under_way_where_that_is_alone() -> None:
    def in_context_of(begun: Invocation, *, alone: bool) -> Invocation | None:
        """Of code that was begun in one invocation, and goes on in the next one."""
        context = contextvars.copy_context()
        context.run(enter, begun, alone=alone)
        work = Work(begun, Rules())
        assert context.run(current_invocation) is begun
        work.end()
        contextvars.copy_context().run(enter, following, alone=alone)
        return context.run(current_invocation)

    first, following = Invocation("first"), Invocation("following")
    assert in_context_of(first, alone=True) is following
    assert in_context_of(first, alone=False) is first


async def test_logs_of_background_tasks_and_threads_have_its_ids() -> None:
    ids = []
    async with function("sources.by_nobody") as running:
        for _ in range(2):
            invoked = await running.api.run(function_url("/log"))
            assert json.loads(invoked.body) == invoked.request_id
            ids.append(invoked.request_id)
    for where in ("route", "task", "thread pool", "thread"):
        assert re.findall(rf"^{where} (\S+) Root=1-5759e988\S+ tenant=$", running.output, re.MULTILINE) == ids
