"""The Invoke API as its callers see it: boto3, the AWS CLI, and HTTP where these two are too well-behaved."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

import adapter
from adapter.local.fronts.invoke import MAX_CLIENT_CONTEXT, read_arn

from .conftest import PATIENCE, Gate, LocalLambda, local_lambda

# The functions under test may use the library; it need not be installed.
LIBRARY = {"PYTHONPATH": str(Path(adapter.__file__).parents[1])}
CREDENTIALS = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}

PATH = "/2015-03-31/functions/f/invocations"
STREAM_PATH = "/2021-11-15/functions/f/response-streaming-invocations"

OK = ["post", "response", '{"a": 1}', {}]
OOPS = '{"errorMessage": "the tea is cold", "errorType": "ColdTea"}'
MID_STREAM = ["end", "Function.ColdTea", {"errorMessage": "the tea is cold"}]


@pytest.fixture
async def url() -> AsyncIterator[LocalLambda]:
    async with local_lambda() as running:
        yield running


class Client:
    """boto3's client; its calls block, so each is made in a thread."""

    def __init__(self, endpoint: str) -> None:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE)
        self.boto = boto3.session.Session().client("lambda", endpoint_url=endpoint, config=config, **CREDENTIALS)
        self.exceptions = self.boto.exceptions

    async def invoke(self, *steps: Sequence[Any], **parameters: Any) -> dict[str, Any]:
        """The reply; its `Payload` is read."""

        def call() -> dict[str, Any]:
            result: dict[str, Any] = self.boto.invoke(**{"FunctionName": "f", "Payload": script(*steps), **parameters})
            with contextlib.closing(result["Payload"]) as payload:
                return {**result, "Payload": payload.read()}

        return await asyncio.to_thread(call)

    async def stream(self, *steps: Sequence[Any], **parameters: Any) -> dict[str, Any]:
        call = self.boto.invoke_with_response_stream
        result: dict[str, Any] = await asyncio.to_thread(
            call, **{"FunctionName": "f", "Payload": script(*steps), **parameters}
        )
        return result

    async def events(self, *steps: Sequence[Any], **parameters: Any) -> tuple[bytes, dict[str, str]]:
        """The payload, and what InvokeComplete says."""
        reply = await self.stream(*steps, **parameters)
        *chunks, last = await asyncio.to_thread(list, reply["EventStream"])
        return b"".join(chunk["PayloadChunk"]["Payload"] for chunk in chunks), last["InvokeComplete"]


@contextlib.contextmanager
def boto_client(url: LocalLambda) -> Iterator[Client]:
    client = Client(url.url)
    with contextlib.closing(client.boto):
        yield client


@pytest.fixture
def client(url: LocalLambda) -> Iterator[Client]:
    with boto_client(url) as client:
        yield client


def script(*steps: Sequence[Any]) -> bytes:
    return json.dumps({"body": json.dumps(steps)}).encode()


def report_of(log_result: str) -> list[str]:
    return base64.b64decode(log_result).decode().splitlines()


async def test_reply(url: LocalLambda, client: Client) -> None:
    reply = await client.invoke(OK)
    assert (reply["StatusCode"], reply["Payload"]) == (200, b'{"a": 1}')
    assert reply["ExecutedVersion"] == "$LATEST"
    assert not {"FunctionError", "LogResult"} & set(reply)
    request_id = reply["ResponseMetadata"]["RequestId"]
    await url.terminal.until(f"^REPORT RequestId: {request_id}")
    assert re.search(
        rf"^START RequestId: {request_id} [\s\S]*"
        rf"^RESPONSE RequestId: {request_id}\tStatus: 200\tFirst byte: \S+ ms\tEnded: \S+ ms\tBytes: 8$",
        url.terminal.getvalue(),
        re.MULTILINE,
    )


async def test_what_the_function_gets() -> None:
    async with local_lambda("invoked.context", scripted=False, settings=LIBRARY) as url:
        with boto_client(url) as client:
            context = base64.b64encode(json.dumps({"custom": {"tea": "gr\u00fcn\n"}}).encode()).decode()
            reply = await client.invoke(Payload=b'[1, "\xc3\xa9"]', ClientContext=context, TenantId="blue tenant")
            result = json.loads(reply["Payload"])
            assert result.pop("trace_id").startswith("Root=1-")
            assert result == {
                "event": [1, "é"],
                "request_id": reply["ResponseMetadata"]["RequestId"],
                "arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
                "custom": {"tea": "gr\u00fcn\n"},
                "tenant_id": "blue tenant",
            }
            # Nothing is left of them for who comes next.
            result = json.loads((await client.invoke(Payload=b""))["Payload"])
            assert (result["event"], result["custom"], result["tenant_id"]) == ({}, None, None)
        trace = "Root=1-6655b1a4-0123456789abcdef01234567;Parent=0123456789abcdef;Sampled=1"
        result = (await url.client.post(PATH, headers={"x-amzn-trace-id": trace})).json()
        assert (result["event"], result["trace_id"]) == ({}, trace)


@pytest.mark.parametrize(
    ("name", "qualifier", "end"),
    [
        ("my-function", None, "us-east-1:123456789012:function:my-function"),
        ("my-function", "$LATEST", "us-east-1:123456789012:function:my-function:$LATEST"),
        ("my-function:v1", None, "us-east-1:123456789012:function:my-function:v1"),
        ("my-function:v1", "v1", "us-east-1:123456789012:function:my-function:v1"),
        ("999999999999:function:my-function", "3", "us-east-1:999999999999:function:my-function:3"),
        ("function:my-function", None, "us-east-1:123456789012:function:my-function"),
        (
            "arn:aws-us-gov:lambda:us-gov-west-1:999999999999:function:my-function:v1",
            None,
            "us-gov-west-1:999999999999:function:my-function:v1",
        ),
    ],
)
def test_the_arn_that_is_invoked(name: str, qualifier: str | None, end: str) -> None:
    partition = "aws-us-gov" if "gov" in name else "aws"
    assert read_arn(name, qualifier, "us-east-1") == f"arn:{partition}:lambda:{end}"


async def test_a_name_as_clients_encode_it() -> None:
    async with local_lambda("invoked.context", scripted=False, settings=LIBRARY) as url:
        with boto_client(url) as client:
            arn = "arn:aws:lambda:eu-west-1:999999999999:function:my-function"
            reply = await client.invoke(FunctionName=arn, Qualifier="$LATEST", Payload=b"{}")
            assert json.loads(reply["Payload"])["arn"] == f"{arn}:$LATEST"
            reply = await client.invoke(FunctionName="my-function:v1", Payload=b"{}")
            assert (
                json.loads(reply["Payload"])["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:my-function:v1"
            )


async def test_the_caller_is_answered_before_the_background_work(url: LocalLambda, client: Client, gate: Gate) -> None:
    reply = await client.invoke(OK, ["gate", gate.port], ["print", "background"])
    assert reply["Payload"] == b'{"a": 1}'
    _, go_on = await gate.reached()
    assert "END RequestId" not in url.terminal.getvalue()
    go_on()
    await url.terminal.until("^background\nEND ")


async def test_the_log_s_tail_holds_the_reply_back(url: LocalLambda, client: Client, gate: Gate) -> None:
    work: list[list[Any]] = [["gate", gate.port], ["print", "x" * 5000], ["print", "background"]]
    call = asyncio.create_task(client.invoke(OK, *work, LogType="Tail"))
    _, go_on = await gate.reached()
    # The runtime has been told that its answer is out, and works on; the caller has nothing.
    await url.terminal.until("^response 202$")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call), 0.3)
    go_on()
    reply = await call
    log = base64.b64decode(reply["LogResult"])
    assert len(log) == 4096
    lines = log.decode().splitlines()
    assert set(lines[0]) == {"x"}
    assert lines[1] == "background"
    assert [line.split()[0] for line in lines[2:]] == ["END", "REPORT"]
    assert reply["Payload"] == b'{"a": 1}'


async def test_a_function_error(url: LocalLambda, client: Client) -> None:
    reply = await client.invoke(["post", "error", OOPS, {}])
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    assert json.loads(reply["Payload"]) == json.loads(OOPS)
    reply = await client.invoke(["print", "before"], ["exit", 3], LogType="Tail")
    assert reply["FunctionError"] == "Unhandled"
    assert json.loads(reply["Payload"])["errorType"] == "Runtime.ExitError"
    lines = report_of(reply["LogResult"])
    assert lines[0].startswith("START RequestId: ")
    assert lines[1] == "before"
    assert lines[-1].endswith("\tStatus: error\tError Type: Runtime.ExitError")


async def test_a_handler_that_raises() -> None:
    async with local_lambda("invoked.fail", scripted=False, settings=LIBRARY) as url:
        with boto_client(url) as client:
            reply = await client.invoke()
            error = json.loads(reply["Payload"])
            assert (reply["FunctionError"], error["errorType"], error["errorMessage"]) == (
                "Unhandled",
                "ValueError",
                "no tea",
            )
            assert error["stackTrace"]
            payload, complete = await client.events()
            assert (payload, complete["ErrorCode"]) == (b"", "Unhandled")
            assert json.loads(complete["ErrorDetails"])["errorMessage"] == "no tea"


async def test_a_timeout() -> None:
    async with local_lambda(timeout=0.5) as url:
        with boto_client(url) as client:
            reply = await client.invoke(["hang"])
            assert reply["FunctionError"] == "Unhandled"
            assert json.loads(reply["Payload"])["errorType"] == "Sandbox.Timedout"
            payload, complete = await client.events(["open", "text/plain"], ["chunk", "begun"], ["hang"])
            assert (payload, complete["ErrorCode"]) == (b"begun", "Sandbox.Timedout")
            # Background work that takes too long is nothing to the caller.
            reply = await client.invoke(OK, ["hang"])
            assert (reply["Payload"], "FunctionError" in reply) == (b'{"a": 1}', False)
            await url.terminal.until("Task timed out after 0.50 seconds$", 3)


async def test_a_streamed_response_in_one_piece(client: Client) -> None:
    prelude: dict[str, Any] = {"statusCode": 201}
    reply = await client.invoke(["open"], ["prelude", prelude], ["chunk", "one"], ["chunk", "two"], ["end"])
    # Nobody reads the prelude on this way.
    assert reply["Payload"] == json.dumps(prelude).encode() + bytes(8) + b"onetwo"
    assert "FunctionError" not in reply
    reply = await client.invoke(["open", "text/plain"], ["chunk", "no "], ["chunk", "JSON"], ["end"])
    assert reply["Payload"] == b"no JSON"


async def test_a_streamed_response_in_one_piece_that_fails(client: Client) -> None:
    reply = await client.invoke(["open", "text/plain"], ["chunk", "begun"], MID_STREAM)
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    assert json.loads(reply["Payload"]) == {"errorMessage": "the tea is cold"}


async def test_a_streamed_response_that_is_too_large_for_one_piece(url: LocalLambda, client: Client) -> None:
    reply = await client.invoke(["open", "text/plain"], ["bytes", 6_291_556], ["end"])
    assert (len(reply["Payload"]), "FunctionError" in reply) == (6_291_556, False)
    reply = await client.invoke(["open", "text/plain"], ["bytes", 6_291_557], ["end"])
    assert reply["FunctionError"] == "Unhandled"
    assert json.loads(reply["Payload"])["errorType"] == "Function.ResponseSizeTooLarge"
    payload, complete = await client.events(["open", "text/plain"], ["bytes", 6_291_557], ["end"])
    assert (len(payload), complete) == (6_291_557, {})


async def test_the_stream_is_live(url: LocalLambda, client: Client, gate: Gate) -> None:
    held = ["gate", gate.port]
    steps: list[list[Any]] = [["open", "text/plain"], held, ["chunk", "one"], held, ["chunk", "two"], held, ["end"]]
    reply = await client.stream(*steps, held, ["print", "background"])
    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "$LATEST")
    assert reply["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    events = iter(reply["EventStream"])
    for chunk in (b"one", b"two"):
        # This chunk is let go now; the one before it has been read.
        (await gate.reached())[1]()
        assert await asyncio.to_thread(next, events) == {"PayloadChunk": {"Payload": chunk}}
    (await gate.reached())[1]()
    assert await asyncio.to_thread(next, events) == {"InvokeComplete": {}}
    assert await asyncio.to_thread(list, events) == []
    _, go_on = await gate.reached()
    assert "END RequestId" not in url.terminal.getvalue()
    go_on()
    await url.terminal.until("^background\nEND ")
    # The payload's bytes, without the encoding around them.
    await url.terminal.until(r"^RESPONSE .*\tStatus: 200\t.*\tBytes: 6$")


async def test_the_end_of_the_stream_waits_for_the_log_s_tail(client: Client, gate: Gate) -> None:
    steps: list[list[Any]] = [
        ["open", "text/plain"],
        ["chunk", "one"],
        ["end"],
        ["gate", gate.port],
        ["print", "background"],
    ]
    reply = await client.stream(*steps, LogType="Tail")
    events = iter(reply["EventStream"])
    assert await asyncio.to_thread(next, events) == {"PayloadChunk": {"Payload": b"one"}}
    _, go_on = await gate.reached()
    end = asyncio.create_task(asyncio.to_thread(next, events))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(end), 0.3)
    go_on()
    lines = report_of((await end)["InvokeComplete"]["LogResult"])
    assert [line.split()[0] for line in lines] == ["START", "response", "background", "END", "REPORT"]
    assert await asyncio.to_thread(list, events) == []


async def test_a_stream_that_fails(url: LocalLambda, client: Client) -> None:
    payload, complete = await client.events(["open", "text/plain"], ["chunk", "begun"], MID_STREAM)
    assert payload == b"begun"
    assert complete == {"ErrorCode": "Function.ColdTea", "ErrorDetails": '{"errorMessage": "the tea is cold"}'}
    payload, complete = await client.events(["open", "text/plain"], ["chunk", "begun"], ["cut"])
    assert (payload, complete["ErrorCode"]) == (b"begunincomplete", "Runtime.TruncatedResponse")


async def test_a_stream_of_what_is_none(client: Client) -> None:
    assert await client.events(OK) == (b'{"a": 1}', {})
    assert await client.events(["post", "response", "", {}]) == (b"", {})
    payload, complete = await client.events(["post", "error", OOPS, {}])
    assert (payload, complete) == (b"", {"ErrorCode": "Unhandled", "ErrorDetails": OOPS})
    # A large one, in as many events as it takes.
    payload, complete = await client.events(["post", "response", '"' + "x" * 5_000_000 + '"', {}])
    assert (len(payload), complete) == (5_000_002, {})


async def test_a_dry_run(url: LocalLambda, client: Client) -> None:
    reply = await client.invoke(OK, InvocationType="DryRun")
    assert (reply["StatusCode"], reply["Payload"]) == (204, b"")
    assert (await url.client.post(STREAM_PATH, headers={"x-amz-invocation-type": "DryRun"})).status_code == 204
    assert "START RequestId" not in url.terminal.getvalue()


async def test_an_event(url: LocalLambda, client: Client) -> None:
    reply = await client.invoke(OK, InvocationType="Event")
    assert (reply["StatusCode"], reply["Payload"]) == (202, b"")
    await url.terminal.until(f"^REPORT RequestId: {reply['ResponseMetadata']['RequestId']}")


async def test_an_event_comes_without_its_client_context() -> None:
    """Lambda passes it "for synchronous invocations only"."""
    async with local_lambda("invoked.context", scripted=False, settings=LIBRARY) as url:
        with boto_client(url) as client:
            await client.invoke(ClientContext=encoded({"custom": {}}), InvocationType="Event")
            await url.terminal.until("^client context: None$")
            await url.terminal.until("^REPORT")


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


CONTEXT = "Client context must be a valid Base64-encoded JSON object."


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({"Payload": b"{'a': 1}"}, "InvalidRequestContent", "Could not parse request body into json: Could not parse"),
        ({"Payload": b'"\xff"'}, "InvalidRequestContent", "Could not parse request body into json: "),
        ({"Payload": b"NaN"}, "InvalidRequestContent", "NaN is not JSON"),
        ({"Payload": b"[" * 100_000}, "InvalidRequestContent", "Could not parse request body into json: "),
        ({"ClientContext": "no base64"}, "InvalidRequestContent", CONTEXT),
        ({"ClientContext": "bm8gSlNPTg=="}, "InvalidRequestContent", CONTEXT),
        ({"ClientContext": encoded([])}, "InvalidRequestContent", CONTEXT),
        ({"ClientContext": encoded({"custom": "x" * 3000})}, "InvalidRequestContent", "no more than 3583 bytes"),
        ({"FunctionName": "f:v1", "Qualifier": "v2"}, "InvalidParameterValue", "The derived qualifier"),
        ({"Payload": b" " * 6_291_457}, "RequestEntityTooLarge", "Request must be smaller than 6291456 bytes for the"),
        ({"Payload": b" " * 8_000_000}, "RequestEntityTooLarge", "Request must be smaller than 6291456 bytes for the"),
        ({"FunctionName": "not a name"}, "Validation", "Value 'not a name' at 'functionName' failed to satisfy"),
        ({"FunctionName": "a/b"}, "Validation", "Value 'a/b' at 'functionName' failed to satisfy"),
        ({"FunctionName": "f:"}, "Validation", "Value 'f:' at 'functionName' failed to satisfy"),
        ({"FunctionName": "arn:aws:s3:::f"}, "Validation", "Value 'arn:aws:s3:::f' at 'functionName' failed"),
        ({"FunctionName": "x" * 65}, "Validation", "Member must have length less than or equal to 64"),
        ({"FunctionName": "x:" + "x" * 255}, "Validation", "Member must have length less than or equal to 256"),
        ({"Qualifier": "a b"}, "Validation", "Value 'a b' at 'qualifier' failed to satisfy constraint"),
        ({"Qualifier": "x" * 129}, "Validation", "Member must have length less than or equal to 128"),
        ({"TenantId": "a!"}, "Validation", "Value 'a!' at 'tenantId' failed to satisfy constraint"),
        ({"TenantId": "x" * 257}, "Validation", "Member must have length less than or equal to 256"),
        ({"InvocationType": "Later"}, "Validation", "Member must satisfy enum value set: ["),
        ({"LogType": "Head"}, "Validation", "Member must satisfy enum value set: [None, Tail]"),
    ],
)
async def test_refused(url: LocalLambda, client: Client, parameters: dict[str, Any], code: str, message: str) -> None:
    # Those that the API's model has are classes of boto3's; the others it gives their names.
    named: Any = getattr(client.exceptions, f"{code}Exception") if code.startswith("Invalid") else None
    for call in (client.invoke, client.stream):
        with pytest.raises(named or botocore.exceptions.ClientError) as caught:
            await call(OK, **parameters)
        assert caught.value.response["Error"]["Code"] == f"{code}Exception"
        assert message in caught.value.response["Error"]["Message"]
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == (413 if "Large" in code else 400)
    assert "START RequestId" not in url.terminal.getvalue()


async def test_limits_are_what_still_fits(client: Client) -> None:
    payload = script(OK)
    assert (await client.invoke(Payload=payload + b" " * (6_291_456 - len(payload))))["StatusCode"] == 200
    context = encoded({"custom": {"x": "x" * 2663}})
    assert MAX_CLIENT_CONTEXT - 4 < len(context) <= MAX_CLIENT_CONTEXT
    assert (await client.invoke(OK, ClientContext=context))["StatusCode"] == 200
    fits = payload + b" " * (1_048_576 - len(payload))
    assert (await client.invoke(Payload=fits, InvocationType="Event"))["StatusCode"] == 202
    with pytest.raises(botocore.exceptions.ClientError, match="1048577 byte payload is too large for the Event") as e:
        await client.invoke(Payload=fits + b" ", InvocationType="Event")
    assert e.value.response["Error"]["Code"] == "RequestEntityTooLargeException"


async def test_an_event_is_no_invocation_with_a_streamed_response(client: Client) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match=r"enum value set: \[RequestResponse, DryRun\]"):
        await client.stream(OK, InvocationType="Event")


async def test_a_managed_instance_without_an_idle_worker(gate: Gate) -> None:
    async with local_lambda(concurrency=1) as url:
        await url.terminal.until("^Function URL")
        with boto_client(url) as client:
            busy = asyncio.create_task(client.invoke(["gate", gate.port], OK))
            _, go_on = await gate.reached()
            with pytest.raises(botocore.exceptions.ClientError) as caught:
                await client.invoke(OK)
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
            assert caught.value.response["Error"]["Code"] == "Runtime.Unavailable"
            go_on()
            assert (await busy)["StatusCode"] == 200


async def test_too_many_requests(gate: Gate) -> None:
    async with local_lambda(max_environments=1) as url:
        with boto_client(url) as client:
            busy = asyncio.create_task(client.invoke(["gate", gate.port], OK))
            _, go_on = await gate.reached()
            for call in (client.invoke, client.stream):
                with pytest.raises(client.exceptions.TooManyRequestsException, match="Rate Exceeded") as caught:
                    await call(OK)
                assert caught.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
                assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            go_on()
            assert (await busy)["StatusCode"] == 200


async def test_what_else_is_on_its_paths(url: LocalLambda) -> None:
    for path in (PATH, STREAM_PATH):
        reply = await url.client.get(path)
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    for path in (
        "/2015-03-31/functions",
        "/2015-03-31/functions/",
        "/2015-03-31/functions/f",
        "/2021-11-15/functions/f/invocations",
    ):
        reply = await url.client.post(path)
        assert (reply.status_code, reply.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    # All else is the function URL's.
    reply = await url.run(["open"], ["prelude", {"statusCode": 201}], ["end"], path="/2015-03-31/function")
    assert reply.status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.test"},
        {"origin": "null"},
        {"origin": "http://localhost:8000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_web_page_is_refused(url: LocalLambda, headers: dict[str, str]) -> None:
    for method, path in (
        ("POST", PATH),
        ("POST", STREAM_PATH),
        ("GET", PATH),
        ("OPTIONS", PATH),
        ("POST", "/2021-11-15/functions/"),
    ):
        content_type = {"content-type": "text/plain"}
        reply = await url.client.request(method, path, content=script(OK), headers={**content_type, **headers})
        assert reply.status_code == 403
        assert "web pages have no access to its Invoke API" in reply.text
        assert not [name for name in reply.headers if name.startswith("access-control-")]
    assert url.terminal.getvalue().count("\nA request was refused with 403: a web page in a browser sent it") == 5
    assert "START RequestId" not in url.terminal.getvalue()
    # The function URL is for them.
    assert (await url.client.post("/", json=[OK], headers=headers)).json() == {"a": 1}


async def test_a_client_context_that_is_nested_deeply_is_passed_on_or_refused(
    url: LocalLambda, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for depth in (*range(100, 500, 100), *range(500, 1340, 6)):
        context = '{"a":' + "[" * depth + "]" * depth + "}"
        headers = {
            "x-amz-client-context": base64.b64encode(context.encode()).decode(),
            "x-amz-invocation-type": "DryRun",
        }
        assert (await url.client.post(PATH, content=b"{}", headers=headers)).status_code in (204, 400)
    assert not caplog.records


async def test_a_caller_that_goes_away(url: LocalLambda, gate: Gate) -> None:
    steps: list[list[Any]] = [
        ["open", "text/plain"],
        ["chunk", "one"],
        ["gate", gate.port],
        ["bytes", 20_000_000],
        ["end"],
    ]
    async with url.client.stream("POST", STREAM_PATH, content=script(*steps, ["print", "done"])) as reply:
        assert b"one" in await anext(reply.aiter_raw())
    (await gate.reached())[1]()
    await url.terminal.until("^response 202\ndone$")
    await url.terminal.until("^REPORT")


async def aws(url: LocalLambda, *arguments: str, folder: Path) -> asyncio.subprocess.Process:
    """The AWS CLI, with what it needs and nothing of the user's."""
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": url.url,
    }
    command = Path(sys.executable).with_name("aws")
    return await asyncio.create_subprocess_exec(
        command, "lambda", "invoke", *arguments, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )


async def output(cli: asyncio.subprocess.Process) -> dict[str, Any]:
    standard_output, _ = await asyncio.wait_for(cli.communicate(), PATIENCE)
    assert cli.returncode == 0
    result: dict[str, Any] = json.loads(standard_output)
    return result


async def test_the_article_s_handler_from_the_command_line(gate: Gate, tmp_path: Path) -> None:
    """No URL involved: the caller has the raw text while the handler works on."""
    async with local_lambda("invoked.article", scripted=False, settings=LIBRARY) as url:
        event = json.dumps({"gate": gate.port})
        cli = await aws(url, "--function-name", "article", "--payload", event, "out.txt", folder=tmp_path)
        result = await output(cli)
        assert result == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
        # It has exited, with its file written; the work goes on.
        _, go_on = await gate.reached()
        text = (tmp_path / "out.txt").read_text()
        request_id = text.removeprefix("Hello my request id is: ")
        await url.terminal.until("^response sent$")
        assert "done waiting" not in url.terminal.getvalue()
        go_on()
        await url.terminal.until(f"^done waiting\nEND RequestId: {request_id}\nREPORT RequestId: {request_id}\t")


async def test_the_article_s_caveat(gate: Gate, tmp_path: Path) -> None:
    """With --log-type Tail there is no response before the whole execution has ended."""
    async with local_lambda("invoked.article", scripted=False, settings=LIBRARY) as url:
        event = json.dumps({"gate": gate.port})
        arguments = ["--function-name", "article", "--log-type", "Tail", "--payload", event, "out.txt"]
        cli = await aws(url, *arguments, folder=tmp_path)
        _, go_on = await gate.reached()
        running = asyncio.create_task(output(cli))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), 0.5)
        assert "RESPONSE" not in url.terminal.getvalue()
        go_on()
        lines = report_of((await running)["LogResult"])
        assert [line.split()[0] for line in lines] == ["START", "response", "done", "END", "REPORT"]
        assert (tmp_path / "out.txt").read_text().startswith("Hello my request id is: ")
