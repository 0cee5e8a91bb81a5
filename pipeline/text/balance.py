"""How much of a page's wikitext is opened and never closed: what the time of parsing it depends on.

In: UTF-8 bytes. Out: the number of openings (`[[ {{ {| [x <tag <!--`) that no closing in the right order belongs to. The
parser looks for the end of each of them up to the end of the page, so that its time grows with their number times the length:
measured, up to 0.25 µs a character and opening. Real pages have a few; 1,000 in 4 kB take it half a second, in 1 MB minutes.
An estimate: what stands in `<nowiki>` is counted too. Order n, memory constant.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

STACK = 4_096  # openings remembered; a page with more open at once has them all counted
LOOK_BACK = 64  # a closing belongs to one of the last so many openings, or to none

LINK, TEMPLATE, TABLE, EXTERNAL, NEVER = 1, 2, 3, 4, 5
TAG = 16  # and above: the tag's name
SINGLE_TAGS = ("br", "hr", "wbr", "li", "dt", "dd", "td", "th", "tr", "img", "link", "meta")


def n_unclosed(text: str) -> int:
    """Openings without an end."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    return int(_count(data, SINGLES))


def name_code(name: str) -> int:
    """The number that the kernels know a tag's name by."""
    code = 0
    for letter in name.encode():
        code = (code * 31 + letter) & 0xFFFFFF
    return TAG + code


SINGLES = np.array([name_code(name) for name in SINGLE_TAGS], np.int64)


@numba.njit(nogil=True)
def _is_letter(byte: int) -> bool:  # pragma: no cover (compiled)
    return 97 <= (byte | 32) <= 122


@numba.njit(nogil=True)
def _close(stack: Any, depth: int, code: int) -> int:  # pragma: no cover (compiled)
    """The depth after closing `code`: what was opened later stays open for good. Unchanged if nothing matches."""
    for at in range(depth - 1, max(depth - 1 - LOOK_BACK, -1), -1):
        if stack[at] == code:
            return at
    return depth


@numba.njit(nogil=True)
def _tag_end(data: Any, at: int) -> tuple[int, int, bool]:  # pragma: no cover (compiled)
    """From the name's first letter: its code, where the tag ends, whether it ends (in `>`, before another `<`)."""
    code = 0
    while at < len(data) and _is_letter(data[at]):
        code = (code * 31 + (data[at] | 32)) & 0xFFFFFF
        at += 1
    while at < len(data) and data[at] != 60 and data[at] != 62:
        at += 1
    return TAG + code, at, at < len(data) and data[at] == 62


@numba.njit(cache=True, nogil=True)
def _count(data: Any, singles: Any) -> int:  # pragma: no cover (compiled)
    n, at, depth, unclosed, last_comment_end = len(data), 0, 0, 0, -2
    stack = np.zeros(STACK, np.int64)
    while at < n:
        a, b = data[at], data[at + 1] if at + 1 < n else 0
        opened, closed, step = 0, 0, 1
        if a == 91:  # [
            if b == 91:
                opened, step = LINK, 2
            elif b == 47 or _is_letter(b):
                opened = EXTERNAL
        elif a == 93:  # ]
            closed, step = (LINK, 2) if b == 93 else (EXTERNAL, 1)
        elif a == 123 and (b == 123 or b == 124):  # {
            opened, step = (TEMPLATE if b == 123 else TABLE), 2
        elif a == 125 and b == 125:
            closed, step = TEMPLATE, 2
        elif a == 124 and b == 125 and not (at + 2 < n and data[at + 2] == 125):
            closed, step = TABLE, 2
        elif a == 60 and b == 33:  # <!
            end = at + 2
            if last_comment_end != -1:
                while end + 2 < n and not (data[end] == 45 and data[end + 1] == 45 and data[end + 2] == 62):
                    end += 1
                last_comment_end = end if end + 2 < n else -1
            if last_comment_end == -1:
                opened = NEVER
            else:
                step = end + 3 - at
        elif a == 60 and b == 47 and at + 2 < n and _is_letter(data[at + 2]):
            closed, end, _ = _tag_end(data, at + 2)
            step = end - at
        elif a == 60 and _is_letter(b):
            opened, end, is_whole = _tag_end(data, at + 1)
            step = end - at
            if not is_whole:
                opened = NEVER
            elif data[end - 1] == 47 or np.any(singles == opened):
                opened = 0
        if opened:
            if depth == STACK:
                unclosed, depth = unclosed + depth, 0
            stack[depth] = opened
            depth += 1
        elif closed:
            remaining = _close(stack, depth, closed)
            if remaining < depth:
                unclosed += depth - 1 - remaining
                depth = remaining
        at += step
    return unclosed + depth
