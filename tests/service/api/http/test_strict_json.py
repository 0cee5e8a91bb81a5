"""Bodies are read strictly: what is refused, with which words, and that nothing else is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.http.strict_json import MAX_DEPTH, parse_json
from service.service_error import ServiceError

SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_reads_what_the_standard_library_writes(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0123456789.eE+-\\ntrufalsN ', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_with_status_400(data: bytes) -> None:
    try:
        outcome = parse_json(data)
    except ServiceError as error:
        outcome = error
    if isinstance(outcome, ServiceError):
        assert outcome.status == 400
        assert len(outcome.message) < 300
    else:
        assert json.loads(data) == outcome


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b'{"a": 1', "line 1, column 8"),
        (b'{"a": 1} {}', "extra data"),
        (b'{"a": NaN}', "found NaN"),
        (b"[-Infinity]", "found -Infinity"),
        (b"[1e999]", "too large a number"),
        (b"[" + b"9" * 5_000 + b"]", "5000 digits"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'[{"x": {"b": 1, "c": 2, "b": 1}}]', "'b' occurs twice"),
        (rb'["\ud800"]', "U+D800"),
        (rb'{"\udc01": 1}', "U+DC01"),
        (b'{"a": "\xff"}', "byte 0xff at 7"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "64 levels"),
        (b"[" * 500_000, "64 levels"),
        (b'{"a":' * 100_000, "64 levels"),
        (b"[" + b"1," * 300_000 + b"1]", "too many values"),
        (b"{'a': 1}", "not JSON"),
        (b'["a\nb"]', "not JSON"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else "",
)
def test_refuses(body: bytes, what: str) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_json(body)
    assert caught.value.status == 400
    assert what.lower() in caught.value.message.lower()


def test_brackets_inside_strings_are_no_levels() -> None:
    text = "[{" * 1_000 + '"\\'
    assert parse_json(json.dumps([text]).encode()) == [text]
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None


def test_a_number_without_a_fraction_is_an_integer() -> None:
    value = parse_json(b"[17.0, 1e3, -0.0, 1.5, 1e300]")
    assert value == [17, 1000, 0, 1.5, 1e300]
    assert [type(one) for one in value] == [int, int, int, float, float]
