"""`streamify` under the stock awslambdaric, and in a unit test."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import pytest

from adapter import (
    AdapterError,
    AppError,
    BlockingResponseStream,
    ConfigurationError,
    ResponseStream,
    streamify,
)
from adapter.environment import environment

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


KINDS = ["coroutine", "async_generator", "generator", "plain", "returns_async", "returns_iterator"]
FORMS = ["method", "callable_object", "partial", "decorated", "decorated_object"]


@pytest.mark.parametrize("handler", KINDS + FORMS)
async def test_every_kind_of_handler_works_on_when_its_stream_is_closed(handler: str) -> None:
    invoked, running = await run(handler, {})
    assert invoked.events == ["open", "chunk", "chunk", "close", "background", "next"]
    assert invoked.chunks == [b"one", b"two"]
    assert invoked.head[b"content-type"] == b"text/plain"
    assert "[" not in running.output


@pytest.mark.parametrize("handler", KINDS)
@pytest.mark.parametrize(
    ("at", "events"),
    [
        ("before", ["error", "next"]),
        ("mid", ["open", "chunk", "close", "next"]),
        ("after", ["open", "chunk", "chunk", "close", "background", "next"]),
    ],
)
async def test_every_kind_of_handler_fails_alike(handler: str, at: str, events: list[str]) -> None:
    invoked, running = await run(handler, {"at": at})
    assert invoked.events == events
    if at == "before":
        assert invoked.error is not None and json.loads(invoked.error)["errorMessage"] == at
    if at == "mid":
        assert invoked.failure[0] == "Function.ValueError"
        assert invoked.failure[1]["errorMessage"] == at
        assert f'fail(event, "{at}")' in "".join(invoked.failure[1]["stackTrace"])
    else:
        assert not invoked.trailers
    # Once each run, in the log of awslambdaric, with the line that failed.
    assert running.output.count(f"[ERROR] ValueError: {at}") == running.output.count("[ERROR]") == 2
    assert running.output.count(f'fail(event, "{at}")') == 2


async def test_the_http_face_in_a_thread() -> None:
    invoked, _ = await run("http_generator", {})
    assert invoked.events == ["open", "prelude", "chunk", "close", "next"]
    assert invoked.prelude == {"statusCode": 201, "headers": {"content-type": "text/plain"}, "cookies": ["a=b"]}


async def test_a_thread_has_a_copy_of_the_context() -> None:
    invoked, _ = await run("sets", {})
    assert invoked.chunks == [b"set in the handler", b"set in the thread", b"set in the handler"]


async def test_a_handler_and_its_iterator_have_one_thread() -> None:
    invoked, _ = await run("rows", {})
    assert invoked.chunks == [str(x).encode() for x in range(100)]


async def test_the_loop_goes_on_while_a_generator_blocks() -> None:
    invoked, _ = await run("blocks", {})
    assert invoked.chunks == [b"waiting", b"opened"]
    assert {"waiting", "opening"} < set(invoked.events)


FLOODS = ["flood_async_generator", "flood_generator", "flood_pipe", "flood_function"]


@pytest.mark.parametrize("handler", [*FLOODS, "flood_writes"])
async def test_a_slow_reader_holds_the_writer(handler: str) -> None:
    async with function(f"streams.{handler}") as running:
        running.api.reading.clear()
        invoked = await running.api.invoke({"pieces": 64})
        await seen(invoked, "made-2")
        last = asyncio.create_task(seen(invoked, "made-63"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(last), 0.5)
        assert "made-48" not in invoked.events  # the sockets hold about 10 MiB
        running.api.reading.set()
        await last
        await invoked.finished.wait()
    assert [entry for entry in invoked.events if entry.startswith("made")] == [f"made-{n}" for n in range(64)]
    assert len(invoked.raw) == 64 * 2**20
    assert not invoked.trailers


async def seen(invoked: Invoked, event: str) -> None:
    while event not in invoked.events:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("handler", FLOODS)
async def test_nothing_more_is_taken_from_a_source_when_the_response_is_lost(handler: str) -> None:
    async with function(f"streams.{handler}") as running:
        running.api.refuse_with = 413
        invoked = await running.api.run({"pieces": 1_000_000})
        following = await running.api.run({"pieces": 1})
    assert invoked.events[0] == "made-0"
    after = ["piped", "next"] if handler in ("flood_pipe", "flood_function") else ["next"]
    ended = invoked.events[invoked.events.index("source-closed") :]
    assert [entry for entry in ended if not entry.startswith("refused")] == ["source-closed", *after]
    assert following.raw == bytes(2**20)
    assert running.output.count("[ERROR]") == 1
    assert f"The response to RequestId '{invoked.request_id}' did not get through" in running.output


@pytest.mark.parametrize("handler", ["value", "value_of_function", "value_of_generator"])
@pytest.mark.parametrize(("value", "result"), [({"a": [1]}, b'{"a": [1]}'), ("text", b'"text"'), (0, b"0")])
async def test_a_value_without_a_response_is_the_answer(handler: str, value: object, result: bytes) -> None:
    invoked, running = await run(handler, {"begun": False, "value": value})
    assert invoked.events == ["response", "next"]
    assert invoked.result == result
    assert b"lambda-runtime-function-response-mode" not in invoked.head
    assert "[" not in running.output


@pytest.mark.parametrize("handler", ["value", "value_of_function", "value_of_generator"])
async def test_a_value_after_the_response_has_begun_is_a_warning(handler: str) -> None:
    invoked, running = await run(handler, {"begun": True, "value": {"a": 1}})
    assert invoked.events[-2:] == ["close", "next"]
    assert b"".join(invoked.chunks[-1:]) in (b"begun", bytes(8))
    assert not invoked.trailers
    message = "The handler returned a value (dict) after it had begun its response; the value is not used"
    assert running.output.count("[WARNING]") == running.output.count(message) == 2


@pytest.mark.parametrize("handler", ["cancelled", "cancelled_function"])
@pytest.mark.parametrize(("at", "events"), [("before", ["error", "next"]), ("mid", ["open", "chunk", "close", "next"])])
async def test_a_cancelled_handler_does_not_end_the_process(handler: str, at: str, events: list[str]) -> None:
    invoked, running = await run(handler, {"at": at})
    assert invoked.events == events
    assert not invoked.trailers or invoked.failure[0] == "Function.CancelledError"
    assert running.output.count("[ERROR] AppError: the handler was cancelled") == 2


async def test_a_thread_learns_of_a_cancellation_by_its_stream() -> None:
    invoked, running = await run("cancelled_in_thread", {})
    assert [entry for entry in invoked.events if entry != "cancelled"] == ["open", "chunk", "close", "next"]
    assert invoked.events.index("cancelled") < invoked.events.index("close")
    assert invoked.failure[0] == "Function.CancelledError"
    assert running.output.count("[ERROR]") == running.output.count("AppError: the handler was cancelled") == 2


async def test_stop_iteration_is_an_error() -> None:
    """A future would not take it, and the invocation would run into its timeout."""
    invoked, running = await run("stops", {})
    assert invoked.events == ["error", "next"]
    assert running.output.count("[ERROR] RuntimeError: a function that runs in a thread raised StopIteration") == 2


async def test_an_exit_ends_the_process() -> None:
    async with function("streams.exits") as running:
        await running.api.invoke({})
        assert await running.process.wait() == 7


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


@pytest.mark.parametrize("name", ["drain_timout", "raise_background_errors", "lifespan", "stream"])
def test_a_keyword_that_it_does_not_have(name: str) -> None:
    options: dict[str, Any] = {name: True}
    with pytest.raises(TypeError, match=rf"streamify\(\) got an unexpected keyword argument '{name}'"):
        streamify(**options)


@pytest.mark.parametrize("secret", ["sid=s3cret", "sid=s3cret\u20ac", "sid=s3cret\n", 5])
@pytest.mark.parametrize("name", ["Set-Cookie", "Authorization", "Proxy-Authorization", "X-Amz-Security-Token"])
def test_what_a_cookie_says_is_in_no_message(secret: Any, name: str) -> None:
    @streamify
    async def handler(event: Any, response_stream: ResponseStream, context: object) -> None:
        response_stream.http(200, **event)

    cases: list[dict[str, Any]] = [
        {"headers": {name: secret}},
        {"headers": {f"{name}: {secret}\u20ac": "value"}},
        {"headers": {f"{name}: {secret}": "value"}},
        {"cookies": [secret]},
        {"cookies": "sid=s3cret"},
    ]
    for arguments in cases:
        try:
            handler(arguments, None)
        except AppError as error:
            assert "s3cret" not in str(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cookies": "a=b"}, "http takes a list of cookies, not a string"),
        ({"headers": {"a": 1}}, "an HTTP header consists of text, unlike 1"),
        ({"headers": [(b"a", "b")]}, "an HTTP header consists of text, unlike b'a'"),
    ],
)
def test_what_is_no_header(arguments: dict[str, Any], message: str) -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        response_stream.http(200, **arguments)

    with pytest.raises(AppError, match=re.escape(message)):
        handler({}, None)


def test_an_exception_is_raised() -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        await response_stream.write("part")
        raise ValueError("mid")

    with pytest.raises(ValueError, match="mid"):
        handler({}, None)


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (7, "not 7: 7 is not a callable object"),
        (lambda event, context: None, "too many positional arguments"),
        (lambda event, response_stream, context, more: None, "missing a required argument: 'more'"),
        (streamify(lambda event, response_stream, context: None), "too many positional arguments"),
        (max, "no signature found"),
    ],
    ids=["no function", "two parameters", "four parameters", "a Lambda handler", "no signature"],
)
def test_other_things_cannot_be_wrapped(handler: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        streamify(handler)
    assert str(caught.value).startswith("streamify takes a function of (event, response_stream, context), not ")


def test_annotations_that_cannot_be_evaluated() -> None:
    """As Python 3.14 does to find out the parameters."""

    class Annotated:
        @property
        def __signature__(self) -> Any:
            raise NameError("name 'ResponseStream' is not defined")

        async def __call__(self, event: Any, response_stream: Any, context: Any) -> None:
            await response_stream.write("fine")

    assert streamify(Annotated())({}, None) == "fine"


def test_a_value_is_returned_as_it_is() -> None:
    value = {"statusCode": 200}
    assert streamify(lambda event, response_stream, context: value)({}, None) is value


def test_a_file_is_piped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one\ntwo\n")

    @streamify
    def handler(event: object, response_stream: BlockingResponseStream, context: object) -> BinaryIO:
        return (tmp_path / "file").open("rb")

    assert handler({}, None) == "one\ntwo\n"


class Source:
    """An async iterator that cannot be closed."""

    def __init__(self, *pieces: Any) -> None:
        self._pieces = iter(pieces)

    async def __anext__(self) -> Any:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration

    def __aiter__(self) -> Self:
        return self


def test_pipe_returns_what_the_generator_returns() -> None:
    returned = []

    def pieces() -> Generator[str, None, int]:
        yield "one"
        return 7

    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        returned.append(await response_stream.pipe(pieces()))
        returned.append(await response_stream.pipe(Source("two")))

    assert handler({}, None) == "onetwo"
    assert returned == [7, None]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("text", AppError, "pipe takes an iterable of pieces; a str is one piece: write it"),
        (b"bytes", AppError, "pipe takes an iterable of pieces; a bytes is one piece: write it"),
        (None, TypeError, "'NoneType' object is not iterable"),
        ([7], AppError, "a body consists of bytes, not of int"),
        (Source(7), AppError, "a body consists of bytes, not of int"),
    ],
)
def test_what_cannot_be_piped(source: Any, error: type[Exception], message: str) -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        await response_stream.pipe(source)

    with pytest.raises(error, match=message):
        handler({}, None)


def test_a_source_is_closed_when_it_yields_after_the_close() -> None:
    closed = []

    @streamify
    async def on_loop(event: object, response_stream: ResponseStream, context: object) -> AsyncIterator[str]:
        try:
            yield "one"
            await response_stream.close()
            yield "two"
        finally:
            await asyncio.sleep(0)
            closed.append("on the loop")

    @streamify
    def in_thread(event: object, response_stream: BlockingResponseStream, context: object) -> Iterator[str]:
        try:
            yield "one"
            response_stream.close()
            yield "two"
        finally:
            closed.append("in a thread")

    for handler in (on_loop, in_thread):
        with pytest.raises(AppError, match="a piece of body cannot come while the response is closed"):
            handler({}, None)
    assert closed == ["on the loop", "in a thread"]


def test_the_content_type_cannot_be_set_too_late() -> None:
    @streamify
    def handler(event: object, response_stream: BlockingResponseStream, context: object) -> None:
        response_stream.write("one")
        response_stream.content_type = "text/plain"

    with pytest.raises(AppError, match="content_type cannot be set while the response is open"):
        handler({}, None)


def test_a_blocking_stream_does_not_block_the_loop() -> None:
    @streamify
    def handler(event: object, response_stream: BlockingResponseStream, context: object) -> AsyncIterator[str]:
        async def pieces() -> AsyncIterator[str]:
            response_stream.write("one")
            yield "two"

        return pieces()

    with pytest.raises(AppError, match="cannot be used on the event loop: declare the handler with async def"):
        handler({}, None)


def test_a_coroutine_of_a_function_is_an_error() -> None:
    async def coroutine() -> None: ...

    def handler(event: Any, response_stream: Any, context: Any) -> Any:
        return coroutine()

    with pytest.raises(AppError, match="returned a coroutine: declare it with async def"):
        streamify(handler)({}, None)


def this_task() -> Generator[str, None, asyncio.Task[Any]]:
    yield ""
    # Apps of other tests have their lifespans on this loop.
    (task,) = [task for task in asyncio.all_tasks(environment().loop) if task.get_name() != "lifespan"]
    return task


@pytest.mark.parametrize("ending", [None, ValueError("its own")])
def test_a_cancelled_thread_is_waited_for(ending: Exception | None) -> None:
    done = []

    @streamify
    def handler(event: object, response_stream: BlockingResponseStream, context: object) -> None:
        task = response_stream.pipe(this_task())
        with pytest.raises(asyncio.CancelledError):
            while True:
                task.get_loop().call_soon_threadsafe(task.cancel)
                response_stream.write("more")
        with pytest.raises(asyncio.CancelledError):
            response_stream.close()
        done.append(response_stream.state)
        if ending is not None:
            raise ending

    with pytest.raises((AppError, ValueError), match="its own" if ending else "the handler was cancelled"):
        handler({}, None)
    assert done == ["open"]


def test_a_thread_is_waited_for_however_often_it_is_cancelled() -> None:
    done = []

    @streamify
    def handler(event: object, response_stream: BlockingResponseStream, context: object) -> None:
        task = response_stream.pipe(this_task())
        for _ in range(3):
            task.get_loop().call_soon_threadsafe(task.cancel)
            for _ in range(3):  # turns of the loop, in which the task takes it
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), task.get_loop()).result(10)
        done.append(task.done())

    with pytest.raises(AppError, match="the handler was cancelled"):
        handler({}, None)
    assert done == [False]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_end_of_the_process_is_nobodys_error(exception: type[BaseException]) -> None:
    @streamify
    async def on_loop(event: object, response_stream: ResponseStream, context: object) -> None:
        raise exception

    @streamify
    def in_thread(event: object, response_stream: BlockingResponseStream, context: object) -> None:
        raise exception

    for handler in (on_loop, in_thread):
        with pytest.raises(exception):
            handler({}, None)


def test_the_wrapped_handler_keeps_its_name() -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None:
        """What it does."""

    assert handler.__name__ == "handler"
    assert handler.__doc__ == "What it does."


def test_a_handler_cannot_be_called_by_one_in_a_thread() -> None:
    @streamify
    async def inner(event: object, response_stream: ResponseStream, context: object) -> None: ...

    @streamify
    def outer(event: object, response_stream: BlockingResponseStream, context: object) -> None:
        inner(event, context)

    with pytest.raises(RuntimeError, match="cannot be called where an event loop is running"):
        outer({}, None)


async def test_a_handler_cannot_be_called_where_a_loop_is_running() -> None:
    @streamify
    async def handler(event: object, response_stream: ResponseStream, context: object) -> None: ...

    with pytest.raises(RuntimeError, match="cannot be called where an event loop is running"):
        handler({}, None)


def test_type_checkers_tell_right_handlers_from_wrong_ones() -> None:
    command = [sys.executable, "-m", "mypy", "tests/streamify_types.py"]
    checked = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert checked.stdout == "Success: no issues found in 1 source file\n", checked.stdout + checked.stderr


def test_every_exception_is_an_adapter_error() -> None:
    import adapter

    public = [getattr(adapter, name) for name in adapter.__all__]
    errors = [value for value in public if isinstance(value, type) and issubclass(value, Exception)]
    assert len(errors) == 9
    assert all(issubclass(error, AdapterError) for error in errors)
