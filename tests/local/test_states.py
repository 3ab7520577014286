"""Each cell of the table: a state, a message, and the state after it; None where it is refused."""

from __future__ import annotations

import pytest

from adapter.local.states import Message, State, TransitionError, transition

S, M = State, Message
CELLS = {
    S.STARTED: {M.NEXT: S.READY, M.INIT_ERROR: S.INIT_ERROR},
    S.INIT_ERROR: {},
    S.READY: {M.NEXT: S.READY, M.INVOKE: S.RUNNING},
    S.RUNNING: {M.NEXT: S.RUNNING, M.RESPONSE: S.RESPONDING, M.ERROR: S.ERROR_RESPONDING},
    S.RESPONDING: {M.SENT: S.RESPONSE_SENT},
    S.ERROR_RESPONDING: {M.SENT: S.RESPONSE_SENT},
    S.RESPONSE_SENT: {M.NEXT: S.READY},
}


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize("message", Message, ids=lambda message: message.name)
def test_transition(state: State, message: Message) -> None:
    after = CELLS[state].get(message)
    if after is not None:
        assert transition(state, message) is after
    else:
        with pytest.raises(TransitionError, match=f"from {state.value} to {message.value} failed for runtime"):
            transition(state, message)
