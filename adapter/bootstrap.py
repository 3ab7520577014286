"""What the asyncio runtime takes over from awslambdaric: all but its loop and its I/O while an invocation is under way.

So that both look the same from outside: handlers are found as there, the context is that class, log lines and errors
have that form. It is taken from ``awslambdaric.bootstrap``, whose parts are no public names: their presence is checked
once, in the init phase.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import sys
import traceback
from typing import TYPE_CHECKING, Any

from .exceptions import SeamError, text_of
from .invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

_PARTS = (
    "_AWS_LAMBDA_LOG_FORMAT",
    "_AWS_LAMBDA_LOG_LEVEL",
    "_setup_logging",
    "build_fault_result",
    "create_lambda_context",
    "create_log_sink",
    "extract_traceback",
    "log_error",
    "make_error",
    "make_xray_fault",
    "FaultException",
    "LambdaLoggerFilter",
    "LambdaRuntimeClient",
    "Unbuffered",
)

FINDERS = ("_get_handler", "get_handler")
"""Names of awslambdaric's function that finds a handler: the second in 4.1.0 and 4.2.0."""

_MAX_CAUSE = 1024 * 1024  # bytes of X-Ray's cause; awslambdaric has the same limit

# Where an exception passes on its way from the handler to us; such frames before the handler's own say nothing.
_LIBRARY = os.path.dirname(os.__file__)
_OURS = (f"{os.path.dirname(__file__)}{os.sep}", f"{_LIBRARY}{os.sep}asyncio", f"{_LIBRARY}{os.sep}concurrent")


class Bootstrap:
    """awslambdaric's parts, for the Runtime API at ``address``. `SeamError` if they are not as known (2.2 to 4.2)."""

    def __init__(self, address: str) -> None:
        module: Any = importlib.import_module("awslambdaric.bootstrap")
        missing = [name for name in _PARTS if not hasattr(module, name)]
        found = [getattr(module, name) for name in FINDERS if hasattr(module, name)]
        if not found:
            missing.append(FINDERS[0])
        if missing:
            raise SeamError(
                f"awslambdaric {getattr(sys.modules['awslambdaric'], '__version__', '?')} has no {', '.join(missing)} "
                "in awslambdaric.bootstrap, of which this runtime is made: use a version from 2.2 to 4.2"
            )
        self._module = module
        self._find_handler: Callable[[str], Callable[[Any, Any], Any]] = found[0]
        self._client = module.LambdaRuntimeClient(address)
        self._marshaller = self._client.marshaller
        self._with_tenant_id = "tenant_id" in inspect.signature(module.create_lambda_context).parameters
        self._sink: Any = None

    def set_up_logging(self) -> None:
        """awslambdaric's log: its format and level, its frames; and each record has the id of its own invocation."""
        module = self._module
        sys.stdout = module.Unbuffered(sys.stdout)
        sys.stderr = module.Unbuffered(sys.stderr)
        self._sink = module.create_log_sink()
        self._sink.__enter__()
        module._setup_logging(module._AWS_LAMBDA_LOG_FORMAT, module._AWS_LAMBDA_LOG_LEVEL, self._sink)
        for handler in logging.getLogger().handlers:
            for theirs in [found for found in handler.filters if isinstance(found, module.LambdaLoggerFilter)]:
                handler.removeFilter(theirs)  # it has one request id for the process
                handler.addFilter(_identify)

    def handler(self, name: str) -> Callable[[Any, Any], Any]:
        """The handler ``module.function``; ends the process if there is none, as an init error."""
        try:
            return self._find_handler(name)
        except self._module.FaultException as fault:
            error = self._module.make_error(fault.msg, fault.exception_type, fault.trace)
        except Exception:
            error = self._module.build_fault_result(sys.exc_info(), None)
        self.fail_init(error)

    def fail_init(self, error: dict[str, Any]) -> NoReturn:
        self._module.log_error(error, self._sink)
        self._client.post_init_error(error)
        sys.exit(1)

    def wait_for_restore(self) -> None:
        """SnapStart: run the hooks before the snapshot, let it be taken, and run those after it has been restored.

        https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
        """
        try:
            wait = self._module.on_init_complete
        except AttributeError:
            raise SeamError("SnapStart needs awslambdaric 3.0 or newer") from None
        wait(self._client, self._sink)

    def context(self, headers: Mapping[str, str], request_id: str, deadline_ms: int | None) -> Any:
        """Make the context object of an invocation, as awslambdaric does: no other invocation has a part of it.

        https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
        """
        arguments = [
            deadline_ms,
            request_id,
            headers.get("lambda-runtime-invoked-function-arn") or None,
            headers.get("lambda-runtime-aws-tenant-id") or None,
        ][: 4 if self._with_tenant_id else 3]
        client_context = headers.get("lambda-runtime-client-context") or None
        identity = headers.get("lambda-runtime-cognito-identity") or None
        return self._module.create_lambda_context(client_context, identity, *arguments)

    def unmarshal(self, body: bytes, content_type: str | None) -> Any:
        return self._marshaller.unmarshal_request(body, content_type)

    def marshal(self, result: Any) -> tuple[bytes, str]:
        """What a handler returned, as a reply's body and content type."""
        payload, content_type = self._marshaller.marshal_response(result)
        return payload if isinstance(payload, bytes) else payload.encode(), content_type

    def report(self, exception: BaseException, request_id: str) -> tuple[bytes, str, str]:
        """Log an exception that ends an invocation. For the Runtime API: its JSON, its type, and X-Ray's cause."""
        import json

        module = self._module
        if isinstance(exception, module.FaultException):
            name, message, frames, stack = exception.exception_type, exception.msg, [], exception.trace
            label = "LambdaValidationError"
            kind = name
        else:
            name = label = type(exception).__name__
            message = _message(exception)
            frames = _frames(module.extract_traceback(exception.__traceback__))
            stack = traceback.format_list(frames)
            letters = re.sub("[^A-Za-z0-9_]", "", name)  # it becomes a header
            kind = f"Function.{letters[:1].upper()}{letters[1:]}"
        error = module.make_error(message, name, stack, request_id)
        module.log_error(error, self._sink)
        cause = json.dumps(module.make_xray_fault(label, message, os.getcwd(), frames))
        return json.dumps(error).encode(), kind, cause if len(cause) < _MAX_CAUSE else ""


def _identify(record: logging.LogRecord) -> bool:
    invocation = current_invocation()
    record.aws_request_id = invocation.request_id if invocation else ""
    record.tenant_id = (invocation.tenant_id if invocation else "") or None
    return True


def _message(exception: BaseException) -> str:
    """What it says, in characters that a log takes: half a surrogate pair, which any JSON can have, is none."""
    message = text_of(exception)
    try:
        message.encode()
    except UnicodeEncodeError:
        return ascii(message)
    return message


def _frames(frames: list[Any]) -> list[Any]:
    """The traceback from the handler on."""
    for number, frame in enumerate(frames):
        if not frame[0].startswith(_OURS):
            return frames[number:]
    return frames
