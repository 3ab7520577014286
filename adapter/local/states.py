"""The runtime's states on an on-demand function. Everything that decides what the Runtime API accepts lives in this
file.

Names are those that AWS's Runtime API puts in its error messages (core/runtime_state_names.go and core/states.go in
https://github.com/aws/aws-lambda-runtime-interface-emulator).
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    STARTED = "Started"
    INIT_ERROR = "InitError"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDING = "InvocationResponse"
    ERROR_RESPONDING = "InvocationErrorResponse"
    RESPONSE_SENT = "RuntimeResponseSentState"


class Message(enum.Enum):
    """What moves the runtime on. The value is the state that a refusal says could not be reached."""

    NEXT = "Ready"  # GET /runtime/invocation/next
    INIT_ERROR = "InitError"  # POST /runtime/init/error
    INVOKE = "Running"  # an event is handed out
    RESPONSE = "InvocationResponse"  # POST /runtime/invocation/{id}/response begins
    ERROR = "InvocationErrorResponse"  # POST /runtime/invocation/{id}/error begins
    SENT = "RuntimeResponseSentState"  # the caller has the whole of either


TRANSITIONS: dict[State, dict[Message, State]] = {
    State.STARTED: {Message.NEXT: State.READY, Message.INIT_ERROR: State.INIT_ERROR},
    State.INIT_ERROR: {},
    State.READY: {Message.NEXT: State.READY, Message.INVOKE: State.RUNNING},
    State.RUNNING: {
        Message.NEXT: State.RUNNING,  # the same event again
        Message.RESPONSE: State.RESPONDING,
        Message.ERROR: State.ERROR_RESPONDING,
    },
    State.RESPONDING: {Message.SENT: State.RESPONSE_SENT},
    State.ERROR_RESPONDING: {Message.SENT: State.RESPONSE_SENT},
    State.RESPONSE_SENT: {Message.NEXT: State.READY},
}


class TransitionError(Exception):
    """The message is not allowed in this state; nothing has changed."""

    def __init__(self, state: State, message: Message) -> None:
        super().__init__(
            f"State transition from {state.value} to {message.value} failed for runtime. "
            "Error: State transition is not allowed"
        )


def transition(state: State, message: Message) -> State:
    """The state after the message. Raises TransitionError."""
    try:
        return TRANSITIONS[state][message]
    except KeyError:
        raise TransitionError(state, message) from None
