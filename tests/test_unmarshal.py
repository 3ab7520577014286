"""What orjson makes of an event is what `json` makes of it."""

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.unmarshal import reader

read = reader(orjson.loads, json.loads)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_any_json(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert read(text) == json.loads(text)


@given(st.integers(-(10**40), 10**40))
def test_integers_of_any_size(number: int) -> None:
    found = read(b'{"n": %d}' % number)["n"]
    assert (found, type(found)) == (number, int)


@pytest.mark.parametrize(
    "text", [rb'"\ud800"', b"1e999", b"Infinity", b'{"a": 1, "a": 2}', b"1.0000000000000000000001", b'"\xed\xa0\x80"']
)
def test_what_orjson_refuses_or_reads_in_another_way(text: bytes) -> None:
    assert read(text) == json.loads(text)


def test_what_is_no_number() -> None:
    assert math.isnan(read(b"NaN"))


@pytest.mark.parametrize("text", [b"", b"{", b'"\xff"', b"[1,]"])
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(ValueError):
        read(text)


def test_without_orjson() -> None:
    assert reader(None, json.loads) is json.loads
