"""Internal extensions: those that live in the function's own process
(https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html). Everything that decides what the Extensions
API accepts lives in this file.

A runtime registers one to be told of its end by SIGTERM, or to keep the environment awake after the runtime has asked
for its next event. External extensions are files in /opt/extensions, which there is not here. States, error types and
messages are those of AWS's own server (core/internalagent_states.go and rapi/handler/agentregister.go in
https://github.com/aws/aws-lambda-runtime-interface-emulator); where Go's JSON parser says what is wrong with a body,
Python's does here.
"""

from __future__ import annotations

import asyncio
import enum
import json
import uuid

from adapter.local.configuration import Configuration
from adapter.local.invocation import Invocation

# https://docs.aws.amazon.com/lambda/latest/dg/lambda-extensions.html
MAX_EXTENSIONS = 10


class State(enum.Enum):
    REGISTERED = "Registered"
    READY = "Ready"
    RUNNING = "Running"


class Message(enum.Enum):
    """What moves an extension on. The value is the state that a refusal says could not be reached."""

    NEXT = "Ready"  # GET /extension/event/next
    INVOKE = "Running"  # an event is handed out


TRANSITIONS: dict[State, dict[Message, State]] = {
    State.REGISTERED: {Message.NEXT: State.READY},
    State.READY: {Message.INVOKE: State.RUNNING},
    State.RUNNING: {Message.NEXT: State.READY},
}


class ExtensionError(Exception):
    """Refused, with status 403 and `{"errorMessage": ..., "errorType": ...}`; nothing has changed."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.value = {"errorMessage": message, "errorType": error_type}


class Extension:
    def __init__(self, *, subscribed: bool) -> None:
        self.identifier = str(uuid.uuid4())
        self.subscribed = subscribed  # to INVOKE
        self.state = State.REGISTERED
        # While READY: what its GET /extension/event/next waits for.
        self.event: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def receive(self, message: Message) -> None:
        try:
            self.state = TRANSITIONS[self.state][message]
        except KeyError:
            raise ExtensionError(
                "Extension.InvalidExtensionState",
                f"State transition from {self.state.value} to {message.value} failed for extension {self.identifier}. "
                "Error: State transition is not allowed",
            ) from None


class Extensions:
    """The extensions that one process has registered."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._extensions: dict[str, Extension] = {}  # by name
        self._closed = False

    def __len__(self) -> int:
        return len(self._extensions)

    @property
    def waiting(self) -> bool:
        """Whether each has nothing left to do. In init all are waited for, later those that had the event."""
        return all(extension.state is State.READY for extension in self._extensions.values())

    def close_registration(self) -> None:
        """The runtime has asked for its first event."""
        self._closed = True

    def register(self, name: str, body: bytes) -> tuple[str, dict[str, str]]:
        """POST /extension/register: the identifier, and the reply's value. Raises ExtensionError."""
        if not name:
            raise ExtensionError("Extension.InvalidExtensionName", "Empty extension name")
        events = parse_events(body)
        for event in events:
            if event == "SHUTDOWN":
                reason = "ShutdownEventNotSupportedForInternalExtension"
                raise ExtensionError("Extension.InvalidEventType", f"{event}: {reason}")
            if event != "INVOKE":
                raise ExtensionError("Extension.InvalidEventType", f"{event}: ErrorInvalidEventType")
        if self._closed:
            raise ExtensionError("Extension.RegistrationClosed", "Extension registration closed already")
        if len(self._extensions) >= MAX_EXTENSIONS:
            raise ExtensionError("Extension.TooManyExtensions", f"Extension limit ({MAX_EXTENSIONS}) reached")
        if name in self._extensions:
            raise ExtensionError("Extension.InvalidExtensionState", "Extension with this name already registered")
        extension = self._extensions[name] = Extension(subscribed="INVOKE" in events)
        return extension.identifier, {
            "functionName": self._configuration.name,
            "functionVersion": "$LATEST",
            "handler": self._configuration.handler,
        }

    def next(self, identifier: str) -> asyncio.Future[bytes]:
        """GET /extension/event/next: its event, when there is one. Raises ExtensionError."""
        if not identifier:
            raise ExtensionError("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        try:
            known = str(uuid.UUID(identifier))
        except ValueError:
            raise ExtensionError(
                "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"
            ) from None
        for extension in self._extensions.values():
            if extension.identifier == known:
                extension.receive(Message.NEXT)
                extension.event = asyncio.get_running_loop().create_future()
                return extension.event
        raise ExtensionError("Extension.UnknownExtensionIdentifier", f"Unknown extension {known}")

    def invoke(self, invocation: Invocation) -> None:
        """Give each that has subscribed the INVOKE event. They are all waiting: else there is no next invocation."""
        event = json.dumps(
            {
                "eventType": "INVOKE",
                "deadlineMs": invocation.deadline_ms,
                "requestId": invocation.request_id,
                "invokedFunctionArn": invocation.arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id},
            }
        ).encode()
        for extension in self._extensions.values():
            if extension.subscribed:
                extension.receive(Message.INVOKE)
                extension.event.set_result(event)


def parse_events(body: bytes) -> list[str]:
    """The events of `{"events": [...]}`; none if it names none. Raises ExtensionError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ExtensionError("InvalidRequestFormat", str(error)) from None
    events = value.get("events") if isinstance(value, dict) else value
    if events is None:
        return []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise ExtensionError("InvalidRequestFormat", 'the body is {"events": [...]}, with strings')
    return events
