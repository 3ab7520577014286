"""The head of a reply, status and headers, as a function gives it in JSON. No I/O here."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# RFC 9110: a header's name is a token, its value visible characters, spaces and tabs.
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

STATUS = re.compile(r"[2-5][0-9][0-9]")

# A service answers over a connection of its own.
HOP_BY_HOP = frozenset(
    {"connection", "date", "keep-alive", "proxy-connection", "server", "te", "trailer", "transfer-encoding", "upgrade"}
)

Headers = list[tuple[str, str]]


class MalformedError(ValueError):
    """What the function sent cannot be made an HTTP reply; the message says why."""


@dataclass(frozen=True)
class HeadForm:
    """What a service reads of a function's head, and what it makes of the headers.

    `fields` are those that it reads, of `headers`, `multiValueHeaders` and `cookies`; the others are ignored. Names in
    lower case: the `dropped` headers go nowhere, the `remapped` ones are renamed `x-amzn-remapped-<name>`.
    `status_in_text` accepts a status such as "404", `booleans` accepts headers that are true or false.
    """

    fields: tuple[str, ...]
    dropped: frozenset[str]
    remapped: frozenset[str] = frozenset()
    status_in_text: bool = False
    booleans: bool = False

    def status(self, value: object) -> int:
        """Raises MalformedError."""
        if self.status_in_text and isinstance(value, str) and STATUS.fullmatch(value):
            return int(value)
        if type(value) is not int or not 200 <= value <= 599:
            raise MalformedError(f"statusCode is {brief(value)}, not a number from 200 to 599")
        return value

    def headers(self, value: Mapping[str, Any]) -> Headers:
        """Ready for HTTP, each cookie a Set-Cookie. Raises MalformedError."""
        found: Headers = []
        for name, content in self._pairs(value):
            text = self._text(name, content)
            if name.lower() not in self.dropped:
                found.append((f"x-amzn-remapped-{name}" if name.lower() in self.remapped else name, text))
        return found

    def _pairs(self, value: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
        single = fields(value, "headers") if "headers" in self.fields else {}
        multiple = fields(value, "multiValueHeaders") if "multiValueHeaders" in self.fields else {}
        # https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html: of what is
        # in both, only multiValueHeaders counts.
        overridden = {name.lower() for name in multiple}
        yield from ((name, content) for name, content in single.items() if name.lower() not in overridden)
        for name, contents in multiple.items():
            if not isinstance(contents, list):
                raise MalformedError(f"the header {name} in multiValueHeaders is not a list but {brief(contents)}")
            yield from ((name, content) for content in contents)
        if "cookies" in self.fields:
            cookies = value.get("cookies") or []
            if not isinstance(cookies, list):
                raise MalformedError(f"cookies is not a list but {brief(cookies)}")
            yield from (("set-cookie", cookie) for cookie in cookies)

    def _text(self, name: str, content: object) -> str:
        if not NAME.fullmatch(name):
            raise MalformedError(f"{name!a} is no name for a header")
        if self.booleans and isinstance(content, bool):
            return "true" if content else "false"
        if not isinstance(content, str):
            raise MalformedError(f"the header {name} is not a string but {brief(content)}")
        if not VALUE.fullmatch(content):
            raise MalformedError(f"the header {name} has characters that HTTP cannot carry: {content!a}")
        return content.strip(" \t")


def fields(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise MalformedError(f"{name} is not an object but {brief(found)}")
    return found


def brief(value: object) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "something that is nested too deeply"
    return text if len(text) <= 80 else f"{text[:80]}..."


# Of a prelude. ASSUMPTION: a status in text is refused here; for a stream nothing was recorded.
FUNCTION_URL = HeadForm(
    ("headers", "cookies"), dropped=HOP_BY_HOP, remapped=frozenset({"content-length", "www-authenticate"})
)

# A status in text was recorded on AWS by LocalStack's tests (test_lambda_url_headers_and_status in
# https://github.com/localstack/localstack/blob/main/tests/aws/services/lambda_/test_lambda.py).
FUNCTION_URL_BUFFERED = dataclasses.replace(FUNCTION_URL, status_in_text=True)

# ASSUMPTION: no source says which are dropped, nor how lenient it is. The content length is counted anew.
HTTP_API_2_0 = HeadForm(
    ("headers", "cookies"), dropped=HOP_BY_HOP | {"content-length"}, status_in_text=True, booleans=True
)
HTTP_API_1_0 = dataclasses.replace(HTTP_API_2_0, fields=("headers", "multiValueHeaders"))

# The names are those of https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html as
# far as they make sense in a reply. Status in text and booleans: seen on AWS by LocalStack's tests of its API Gateway.
REST_API = HeadForm(
    ("headers", "multiValueHeaders"),
    dropped=frozenset({"keep-alive", "proxy-connection", "te", "transfer-encoding"}),
    remapped=frozenset(
        {
            "authorization",
            "connection",
            "content-length",
            "content-md5",
            "date",
            "expect",
            "host",
            "max-forwards",
            "proxy-authenticate",
            "server",
            "trailer",
            "upgrade",
            "user-agent",
            "www-authenticate",
        }
    ),
    status_in_text=True,
    booleans=True,
)
REST_API_STREAM = dataclasses.replace(REST_API, fields=("headers", "multiValueHeaders", "cookies"))

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html: hop-by-hop headers are not
# honoured, the content length is counted anew. ASSUMPTION: the field of the other kind is ignored.
ALB = HeadForm(("headers",), dropped=HOP_BY_HOP | {"content-length"})
ALB_MULTI_VALUE = dataclasses.replace(ALB, fields=("multiValueHeaders",))
