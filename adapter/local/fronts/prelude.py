"""The head of a streamed HTTP response: a JSON object, 8 NUL bytes, then the body. No I/O here.

https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from adapter.local.fronts import head
from adapter.local.fronts.head import Headers, HeadForm, MalformedError

CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
DELIMITER = bytes(8)


@dataclass(frozen=True)
class PreludeForm:
    """A service's preludes: the delimiter must end within `limit` bytes; with `keys`, other keys are refused; with
    `unpacks`, a body that is packed with gzip is unpacked, and the header that says so dropped
    (https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/issues/96)."""

    head: HeadForm
    limit: int
    keys: frozenset[str] | None = None
    unpacks: bool = False


# No limit is published for function URLs; what has no delimiter by now is no prelude.
FUNCTION_URL = PreludeForm(head.FUNCTION_URL, 1024 * 1024, unpacks=True)

# https://docs.aws.amazon.com/apigateway/latest/developerguide/response-transfer-mode-lambda.html
REST_API = PreludeForm(
    head.REST_API_STREAM, 16 * 1024, keys=frozenset({"headers", "multiValueHeaders", "cookies", "statusCode"})
)


@dataclass(frozen=True)
class Prelude:
    """A reply's head, ready for HTTP; `gzip` tells that the body is packed, and is to be unpacked."""

    status: int
    headers: Headers
    gzip: bool = False


class PreludeReader:
    """Finds the prelude in a stream that may be cut anywhere."""

    def __init__(self, form: PreludeForm) -> None:
        self._form = form
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[Prelude, bytes] | None:
        """The prelude and what came after it; None while it is not complete. Raises MalformedError."""
        # The delimiter may have begun in what was there before.
        start = max(0, len(self._buffer) - len(DELIMITER) + 1)
        self._buffer += data
        end = self._buffer.find(DELIMITER, start, self._form.limit)
        if end >= 0:
            return parse(bytes(self._buffer[:end]), self._form), bytes(self._buffer[end + len(DELIMITER) :])
        if len(self._buffer) >= self._form.limit:
            raise MalformedError(f"no 8 NUL bytes in its first {self._form.limit} bytes")
        return None

    def close(self) -> MalformedError:
        """The stream is at its end: why it has no prelude, or only a part."""
        return MalformedError(f"the stream ended after {len(self._buffer)} bytes, before 8 NUL bytes")


def parse(text: bytes, form: PreludeForm) -> Prelude:
    """Raises MalformedError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedError("it is not a JSON object")
    if form.keys is not None and (unknown := value.keys() - form.keys):
        raise MalformedError(f"it has keys that are not allowed in it: {', '.join(sorted(unknown))}")
    status = form.head.status(value.get("statusCode", 200))
    headers = form.head.headers(value)
    if form.unpacks:
        plain = [(name, content) for name, content in headers if not packed(name, content)]
        return Prelude(status, plain, gzip=len(plain) < len(headers))
    return Prelude(status, headers)


def packed(name: str, content: str) -> bool:
    return name.lower() == "content-encoding" and content.lower() == "gzip"
