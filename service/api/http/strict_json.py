"""Read the JSON of a request strictly, so that what is checked is what is used.

In: the bytes of a body. Out: the value. Refused, with the reason: bytes that are not UTF-8, anything after the value, NaN and
infinities (also by overflow, as in 1e999), integers of more than MAX_DIGITS digits, half surrogate pairs, the same key twice in an
object (parsers disagree which one counts), more than MAX_DEPTH levels and more than MAX_VALUES values.

Time: about 15 µs a kilobyte: the standard library's parser, and a walk for bodies that have more brackets than levels allowed.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from service.service_error import ServiceError

MAX_DEPTH = 64  # of arrays and objects; JSON schemas of tools have 10 to 20
MAX_DIGITS = 400  # of an integer; converting one takes quadratic time
MAX_VALUES = 200_000  # a batch of 2,048 prompts of 50 tokens has half as many


def parse_json(data: bytes) -> Any:
    """Return the value. Raises: ServiceError 400 that says what is wrong, and where."""
    text = _decode(data)
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(text)
    if text.count(",") > MAX_VALUES:
        raise _make_error(f"too many values; found more than {MAX_VALUES:,}; send fewer", "too_many_values")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _make_error(f"not JSON; found {error.msg.lower()[:60]} at {where}; send valid JSON") from None
    except RecursionError:
        raise _make_depth_error() from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _decode(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _make_error(f"not UTF-8; found byte {data[error.start]:#04x} at {error.start}; encode as UTF-8") from None
    if not text.strip():
        raise _make_error("empty; found no bytes; send a JSON object")
    return text


def _check_depth(text: str) -> None:
    """Count brackets outside strings. Raises: ServiceError for too many levels."""
    depth, is_string, skip = 0, False, False
    for character in text:
        if skip:
            skip = False
        elif is_string:
            skip, is_string = character == "\\", character != '"'
        elif character == '"':
            is_string = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _make_depth_error()
        elif character in "]}":
            depth -= 1


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"U+{ord(error.object[error.start]):04X}"
        raise _make_error(f"half a surrogate pair; found {found}; send whole characters") from None


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _make_error(f"the key {key[:40]!r} occurs twice in an object; send it once", "duplicate_key")
            seen.add(key)
    return value


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _make_error(f"too large a number; found {len(digits)} digits; send at most {MAX_DIGITS}")
    return int(digits)


def _parse_float(digits: str) -> float | int:
    value = float(digits)
    if not math.isfinite(value):
        raise _make_error(f"too large a number; found {digits[:20]}; send one that a double can hold")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value  # JSON has one kind of number: 17.0 is 17


def _refuse_constant(name: str) -> NoReturn:
    raise _make_error(f"not JSON; found {name}; send a finite number or null")


def _make_depth_error() -> ServiceError:
    return _make_error(f"nested too deeply; found more than {MAX_DEPTH} levels; flatten it", "too_deep")


def _make_error(message: str, code: str = "invalid_json") -> ServiceError:
    return ServiceError(400, f"body: {message}.", code=code, param=None)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_make_object, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_constant
)
