from __future__ import annotations

import json
from typing import Any

import pytest

from adapter.local.fronts.head import MalformedError
from adapter.local.fronts.prelude import FUNCTION_URL, REST_API, Prelude, PreludeForm, PreludeReader, parse

NULS = bytes(8)


def read(*chunks: bytes, form: PreludeForm = FUNCTION_URL) -> tuple[Prelude, bytes]:
    """What a reader makes of a stream in these chunks, its prelude and the bytes of the body."""
    reader, prelude, body = PreludeReader(form), None, b""
    for chunk in chunks:
        if prelude is not None:
            body += chunk
        elif found := reader.feed(chunk):
            prelude, body = found
    if prelude is None:
        raise reader.close()
    return prelude, body


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b'{"statusCode":201}' + NULS, id="no body"),
        pytest.param(b'{"statusCode":201}' + NULS + b"body", id="body"),
        pytest.param(b'{"statusCode":201}' + NULS + NULS + b"\0", id="body of NULs"),
        pytest.param(
            b'{"statusCode":201,"headers":{"x":"\\u0000"}}'.replace(b"\\u0000", b"0") + NULS + b"a\0b", id="NUL in body"
        ),
    ],
)
def test_whole_and_byte_at_a_time(stream: bytes) -> None:
    whole = read(stream)
    assert read(*(bytes([byte]) for byte in stream)) == whole
    for cut in range(len(stream)):
        assert read(stream[:cut], stream[cut:]) == whole
    assert whole[0].status == 201
    assert whole[1] == stream[stream.index(NULS) + 8 :]


def test_empty_object_is_200() -> None:
    assert parse(b"{}", FUNCTION_URL) == Prelude(200, [])


def test_headers() -> None:
    prelude = parse(
        json.dumps(
            {
                "headers": {
                    "Content-Type": "text/html",
                    "Content-Length": "5",
                    "WWW-Authenticate": "Basic",
                    "Connection": "close",
                    "Keep-Alive": "timeout=5",
                    "Transfer-Encoding": "chunked",
                    "Date": "today",
                    "Server": "uvicorn",
                    "x-latin": "caf\u00e9",
                },
                "cookies": ["a=1; Path=/", "b=2"],
                "multiValueHeaders": {"x-only-api-gateway": ["1"]},
                "somethingNew": 1,
            }
        ).encode(),
        FUNCTION_URL,
    )
    assert prelude == Prelude(
        200,
        [
            ("Content-Type", "text/html"),
            ("x-amzn-remapped-Content-Length", "5"),
            ("x-amzn-remapped-WWW-Authenticate", "Basic"),
            ("x-latin", "caf\u00e9"),
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "b=2"),
        ],
    )


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([], "not a JSON object"),
        ({"statusCode": "200"}, "statusCode"),
        ({"statusCode": True}, "statusCode"),
        ({"statusCode": 101}, "statusCode is 101"),
        ({"statusCode": 600}, "statusCode is 600"),
        ({"headers": []}, "headers is not an object"),
        ({"headers": {"x": ["1", "2"]}}, r'header x is not a string but \["1", "2"\]'),
        ({"headers": {"x": 1}}, "header x is not a string but 1"),
        ({"headers": {"a b": "1"}}, "'a b' is no name"),
        ({"headers": {"": "1"}}, "'' is no name"),
        ({"headers": {"x": "1\r\ny: 2"}}, "cannot carry"),
        ({"headers": {"x": "\u20ac"}}, "cannot carry"),
        ({"cookies": "a=1"}, "cookies is not a list"),
        ({"cookies": [1]}, "set-cookie is not a string"),
        ({"cookies": ["a=\n"]}, "cannot carry"),
    ],
)
def test_refused(value: Any, complaint: str) -> None:
    with pytest.raises(MalformedError, match=complaint):
        parse(json.dumps(value).encode(), FUNCTION_URL)


@pytest.mark.parametrize("text", [b"", b"<html>", b'{"statusCode":', b"\xff{}"])
def test_not_json(text: bytes) -> None:
    with pytest.raises(MalformedError, match="not JSON"):
        parse(text, FUNCTION_URL)


def test_ends_early() -> None:
    with pytest.raises(MalformedError, match="ended after 9 bytes, before 8 NUL bytes"):
        read(b"{}", bytes(7))


def test_never_a_delimiter() -> None:
    with pytest.raises(MalformedError, match="no 8 NUL bytes"):
        read(b"x" * FUNCTION_URL.limit, b"x")


def test_rest_api_merges_headers() -> None:
    value = {
        "statusCode": 201,
        "headers": {"x": "lost", "content-encoding": "gzip", "content-length": "5"},
        "multiValueHeaders": {"X": ["1", "2"]},
        "cookies": ["a=1"],
    }
    assert parse(json.dumps(value).encode(), REST_API) == Prelude(
        201,
        [
            ("content-encoding", "gzip"),
            ("x-amzn-remapped-content-length", "5"),
            ("X", "1"),
            ("X", "2"),
            ("set-cookie", "a=1"),
        ],
    )


def test_rest_api_allows_no_other_key() -> None:
    with pytest.raises(MalformedError, match="keys that are not allowed in it: body, isBase64Encoded"):
        parse(b'{"statusCode": 200, "body": "", "isBase64Encoded": false}', REST_API)


@pytest.mark.parametrize("size", [1, 1000, 16 * 1024, 20 * 1024])
def test_rest_api_wants_its_prelude_in_16_kb(size: int) -> None:
    """However the stream is cut."""

    def stream(length: int) -> list[bytes]:
        """A prelude that ends, delimiter and all, after so many bytes."""
        whole = b'{"headers":{"x":"' + b"x" * (length - len(b'{"headers":{"x":""}}') - 8) + b'"}}' + NULS + b"body"
        return [whole[start : start + size] for start in range(0, len(whole), size)]

    assert read(*stream(16 * 1024), form=REST_API)[1] == b"body"
    with pytest.raises(MalformedError, match="no 8 NUL bytes in its first 16384 bytes"):
        read(*stream(16 * 1024 + 1), form=REST_API)
