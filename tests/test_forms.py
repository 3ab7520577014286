"""Forms reach frameworks that read a body by its length, also where the event does not say one."""

import json
from collections.abc import Iterator

import pytest

from .events import EVENTS, Sent
from .runtime_api import function

FRAMEWORKS = ("fastapi", "a2wsgi", "starlette", "django")
PARTS = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'
FORMS = {
    "application/x-www-form-urlencoded": b"a=1",
    "multipart/form-data; boundary=b": PARTS,
}
# What a client says of the length; a REST API takes it out, https://github.com/Kludex/mangum/issues/143.
LENGTHS = ((), (("transfer-encoding", "chunked"),))


def requests() -> Iterator[tuple[str, Sent]]:
    for framework in FRAMEWORKS:
        for content_type, body in FORMS.items():
            for length in LENGTHS:
                headers = (("content-type", content_type), *length)
                yield framework, Sent(f"/{framework}/form", "POST", headers=headers, body=body)


@pytest.mark.parametrize("client", ["awslambdaric", "adapter"])
@pytest.mark.parametrize("name", ["function URL", "REST API", "ALB"])
async def test_a_form_arrives_though_the_event_has_no_content_length(name: str, client: str) -> None:
    async with function("forms.handler", client=client) as running:
        for framework, sent in requests():
            invoked = await running.api.run(EVENTS[name](sent))
            if name == "function URL":
                status, body = invoked.prelude["statusCode"], invoked.body
            else:
                assert invoked.result is not None
                reply = json.loads(invoked.result)
                status, body = reply["statusCode"], reply["body"]
            assert (framework, status, json.loads(body)) == (framework, 200, {"form": {"a": "1"}})
