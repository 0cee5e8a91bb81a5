"""Spans in a window of bytes, shared by the exact checks for personal data."""

from __future__ import annotations

from typing import TypeAlias

Span: TypeAlias = tuple[int, int]  # start and stop in the window

_NOT_DIGITS = bytes(range(48)) + bytes(range(58, 256))


def extract_digits(text: bytes) -> bytes:
    """Return the ASCII digits of the text."""
    return text.translate(None, _NOT_DIGITS)


def ends_here(window: bytes, stop: int) -> bool:
    """Return whether no letter, digit or joined part follows, so that what stops here is complete."""
    rest = window[stop : stop + 2]
    if not rest:
        return True
    if rest[:1].isalnum() or rest[:1] in b"_@%+=":
        return False
    return not (rest[:1] in b"-./:," and rest[1:].isalnum() and (rest[1:].isdigit() or rest[:1] in b"-/"))
