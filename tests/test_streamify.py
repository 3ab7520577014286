"""`streamify` under the stock awslambdaric, and in a unit test."""

import json

import pytest

from adapter import AdapterError, ConfigurationError, ResponseStream, streamify

from .events import function_url
from .runtime_api import Function, Invoked, function

WIRE = ["open", "chunk", "close"]


async def run(handler: str, event: object) -> tuple[Invoked, Function]:
    async with function(f"streams.{handler}") as running:
        invoked = await running.api.run(event)
        assert not [entry for entry in running.api.log if entry.startswith(("refused", "broken"))]
        following = await running.api.run(event)
        assert following.events == invoked.events
    return invoked, running


async def test_the_handler_of_the_article() -> None:
    invoked, _ = await run("article", {"any": "JSON"})
    assert invoked.events == [*WIRE, "background", "done-waiting", "next"]
    assert invoked.raw == f"Hello my request id is: {invoked.request_id}".encode()
    assert invoked.head[b"content-type"] == b"text/plain"
    assert invoked.head[b"lambda-runtime-function-response-mode"] == b"streaming"
    assert invoked.result is None


async def test_the_http_face() -> None:
    invoked, _ = await run("http", {"status": 201})
    assert invoked.prelude == {
        "statusCode": 201,
        "headers": {"content-type": "text/plain; charset=utf-8", "x-name": "é"},
        "cookies": ["a=1; Path=/", "b=2"],
    }
    assert invoked.body.decode() == "héllo wö"
    assert invoked.head[b"content-type"] == b"application/vnd.awslambda.http-integration-response"


async def test_the_http_face_has_no_body_where_the_status_allows_none() -> None:
    invoked, _ = await run("http", {"status": 204})
    assert invoked.events == ["open", "prelude", "close", "next"]


async def test_its_head_does_not_wait_for_the_first_write() -> None:
    invoked, _ = await run("slow_http", {})
    assert invoked.events == ["started", "open", "prelude", "first-token", "chunk", "close", "next"]
    assert invoked.prelude["headers"] == {"x-a": "1, 2"}


async def test_a_handler_that_writes_nothing_sends_an_empty_stream() -> None:
    invoked, _ = await run("silent", {})
    assert invoked.events == ["open", "close", "next"]
    assert invoked.head[b"content-type"] == b"application/octet-stream"
    assert invoked.result is None


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("before", "ValueError: before"),
        ("held", "ValueError: held"),
        ("content type", "is not a legal value of the header b'content-type'"),
        ("header", "an HTTP header has characters of latin-1 only, unlike '\\u20ac'"),
        ("type", "a body consists of bytes, not of int"),
    ],
)
async def test_before_the_first_byte_it_is_an_invocation_error(at: str, message: str) -> None:
    invoked, running = await run("phases", {"at": at})
    assert invoked.events == ["error", "next"]
    assert invoked.error is not None and message.rpartition(": ")[2].encode() in invoked.error.replace(b"\\\\", b"\\")
    assert running.output.count("[ERROR]") == 2  # one of each run


@pytest.mark.parametrize(
    ("at", "error_type", "message"),
    [
        ("mid", "ValueError", "mid"),
        ("http after write", "AppError", "the start of a response cannot come while the response is open"),
    ],
)
async def test_in_mid_stream_it_is_trailers_and_the_log(at: str, error_type: str, message: str) -> None:
    invoked, running = await run("phases", {"at": at})
    assert invoked.events == ["open", "chunk", "close", "next"]
    trailer, report = invoked.failure
    assert trailer == f"Function.{error_type}"
    assert report["errorMessage"] == message
    assert running.output.count(f"[ERROR] {error_type}: {message}") == 2


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("after", "ValueError: after"),
        ("write after close", "AppError: a piece of body cannot come while the response is closed"),
    ],
)
async def test_after_the_close_it_is_for_the_log(at: str, message: str) -> None:
    invoked, running = await run("phases", {"at": at})
    assert invoked.events == ["open", "chunk", "close", "next"]
    assert not invoked.trailers
    assert running.output.count(f"[ERROR] {message}") == 2


async def test_a_message_that_no_log_can_take_does_not_end_the_process() -> None:
    """awslambdaric's log and its post both raise for half a surrogate pair, which JSON can bring."""
    async with function("streams.phases") as running:
        invoked = await running.api.run({"at": "before, half a surrogate pair", "text": "a\udc80"})
        assert invoked.events == ["error", "next"]
        assert invoked.error is not None and json.loads(invoked.error)["errorMessage"] == "ValueError: 'a\\udc80'"
        invoked = await running.api.run({"at": "mid, half a surrogate pair", "text": "a\udc80"})
        assert invoked.events == ["open", "chunk", "close", "next"]
        assert invoked.failure[1]["errorMessage"] == "a\udc80"
    assert running.output.count("ValueError: 'a\\udc80'") == 2


async def test_an_exception_of_a_decorator_after_the_response_is_not_posted() -> None:
    invoked, running = await run("raised_over", function_url())
    assert invoked.events == ["open", "prelude", "chunk", "close", "decorator", "next"]
    assert "[ERROR] LookupError: flushing failed" in running.output


async def test_what_a_decorator_makes_of_the_result_is_not_posted() -> None:
    invoked, _ = await run("changed", function_url())
    assert invoked.events == ["open", "prelude", "chunk", "close", "next"]


async def test_a_call_with_a_made_up_context_returns_its_reply() -> None:
    invoked, _ = await run("calls_itself", function_url())
    assert invoked.events == ["response", "next"]
    assert invoked.result is not None and b'{"nested": {"statusCode": 200, "body": "aGVsbG8="' in invoked.result


async def test_an_adapter_built_in_the_first_invocation_streams_it() -> None:
    async with function("late.handler") as running:
        for _ in range(2):
            invoked = await running.api.run(function_url())
            assert invoked.events == ["open", "prelude", "chunk", "close", "next"]


# Outside Lambda.


def test_a_raw_response_is_returned_as_it_is() -> None:
    @streamify
    async def text(event: object, response_stream: ResponseStream, context: object) -> None:
        await response_stream.write("hé")
        await response_stream.write(memoryview(b"llo"))
        await response_stream.close()

    @streamify
    async def binary(event: object, response_stream: ResponseStream, context: object) -> None:
        await response_stream.write(b"\xff\xfe")

    assert text({}, None) == "héllo"
    assert binary({}, None) == b"\xff\xfe"


def test_an_http_response_is_returned_as_a_dict() -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        response_stream.http(302, {"Location": "/"}, ["a=b"])
        assert repr(response_stream) == "<ResponseStream held>"
        await response_stream.close()
        assert response_stream.state == "closed"
        assert response_stream.status == 302

    assert handler({}, None) == {
        "statusCode": 302,
        "headers": {"location": "/"},
        "cookies": ["a=b"],
        "body": "",
        "isBase64Encoded": False,
    }


def test_an_exception_is_raised() -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        await response_stream.write("part")
        raise ValueError("mid")

    with pytest.raises(ValueError, match="mid"):
        handler({}, None)


def test_only_an_async_function_can_be_wrapped() -> None:
    def handler(event: object, response_stream: ResponseStream, context: object) -> None: ...

    with pytest.raises(ConfigurationError, match="streamify takes an async function"):
        streamify(handler)  # type: ignore[arg-type]


def test_the_wrapped_handler_keeps_its_name() -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        """What it does."""

    assert handler.__name__ == "handler"
    assert handler.__doc__ == "What it does."


async def test_a_handler_cannot_be_called_where_a_loop_is_running() -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None: ...

    with pytest.raises(RuntimeError, match="cannot be called where an event loop is running"):
        handler({}, None)


def test_every_exception_is_an_adapter_error() -> None:
    import adapter

    errors = [getattr(adapter, name) for name in adapter.__all__ if name.endswith(("Error", "Failure"))]
    assert len(errors) == 7
    assert all(issubclass(error, AdapterError) for error in errors)
