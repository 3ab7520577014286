from __future__ import annotations

import struct

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from adapter.local.fronts.event_stream import event, message

NAMES = st.text(min_size=1, max_size=60)
HEADERS = st.dictionaries(NAMES, st.text(max_size=300), max_size=8)
MESSAGES = st.lists(st.tuples(HEADERS, st.binary(max_size=500)), max_size=5)


@given(MESSAGES, st.data())
def test_an_independent_decoder_reads_it_however_it_is_cut(
    messages: list[tuple[dict[str, str], bytes]], data: st.DataObject
) -> None:
    wire = b"".join(message(headers, payload) for headers, payload in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    decoder = EventStreamBuffer()
    read = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        decoder.add_data(wire[start:end])
        read += [(decoded.headers, decoded.payload) for decoded in decoder]
    assert read == messages


def test_an_event() -> None:
    decoder = EventStreamBuffer()
    decoder.add_data(event("PayloadChunk", "application/octet-stream", b"\0\xff"))
    (decoded,) = decoder
    assert decoded.headers == {
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    assert decoded.payload == b"\0\xff"


def test_the_specification_s_own_message() -> None:
    """The test vectors of AWS's implementations: no header and no payload."""
    assert message({}, b"") == bytes.fromhex("00000010 00000000 05c248eb 7d98c8ff")


@pytest.mark.parametrize("headers", [{"x" * 256: ""}, {"é" * 128: ""}, {"x": "x" * 65536}])
def test_what_a_header_cannot_hold(headers: dict[str, str]) -> None:
    with pytest.raises(struct.error):
        message(headers, b"")
