"""Fold texts to what a reader sees, so that copies that differ in invisible characters only are exact duplicates.

In: a column of texts. Out: the texts in NFKC and lower case, without control characters, soft hyphens, zero-width spaces, byte
order marks, directional marks and variation selectors; separators of lines and other unusual white space are spaces. The zero-width
joiner and non-joiner, which change what is displayed, remain. Time: linear, 0.5 ns per byte of ASCII and 1 ns of other text in
addition to `fold`; only the few rows that have such a character are rewritten.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from functools import cache

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.columns import Bytes, Offsets, to_utf8
from pipeline.text.letters import decode_any
from pipeline.text.normalize import fold

_SPACES = ((0x1C, 0x1F), (0x85, 0x85), (0x1680, 0x1680), (0x2028, 0x2029))
_INVISIBLE = (
    (0x00, 0x08),
    (0x0E, 0x1B),
    (0x7F, 0x84),
    (0x86, 0x9F),
    (0xAD, 0xAD),  # soft hyphen
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x180B, 0x180F),
    (0x200B, 0x200B),  # zero-width space
    (0x200E, 0x200F),  # direction
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xE0000, 0xE0FFF),
)


def fold_visible(texts: pa.StringArray) -> pa.StringArray:
    """Return the folded texts without invisible characters."""
    points = np.array((*_SPACES, *_INVISIBLE), np.int64)
    is_unusual = pa.array(_find_unusual(*to_utf8(texts), points, _make_lead_bytes()))
    if not pc.any(is_unusual).as_py():
        return fold(texts)
    spaced = pc.replace_substring_regex(texts.filter(is_unusual), _make_pattern(_SPACES), " ")
    visible = pc.replace_substring_regex(spaced, _make_pattern(_INVISIBLE), "")
    return fold(pc.replace_with_mask(texts, is_unusual, visible))


@cache
def _make_pattern(ranges: tuple[tuple[int, int], ...]) -> str:
    """Return RE2's class of these code points."""
    return "[" + "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ranges) + "]"


@cache
def _make_lead_bytes() -> npt.NDArray[np.bool_]:
    """Return for each byte whether the UTF-8 form of an unusual character begins with it."""
    is_lead = np.zeros(256, np.bool_)
    for first, last in (*_SPACES, *_INVISIBLE):
        is_lead[[chr(point).encode()[0] for point in range(first, last + 1)]] = True
    return is_lead


@numba.njit(cache=True, nogil=True)
def _find_unusual(
    data: Bytes, offsets: Offsets, ranges: npt.NDArray[np.int64], is_lead: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:  # pragma: no cover (compiled)
    """Return for each row whether it has a character in one of the ranges."""
    out = np.zeros(len(offsets) - 1, np.bool_)
    for row in range(len(out)):
        text = data[offsets[row] : offsets[row + 1]]
        n_controls, n_others = np.int64(0), np.int64(0)
        for i in range(len(text)):  # no branch, so that it is vectorized
            byte = text[i]
            n_controls += (byte < 9) | (np.uint8(byte - np.uint8(14)) < 18) | (byte == 127)
            n_others += byte >> 7
        out[row] = n_controls > 0
        if n_others == 0 or out[row]:
            continue
        for i in range(len(text)):
            if is_lead[text[i]] and text[i] >= 128:
                point, _ = decode_any(text, np.uint64(i))
                for k in range(len(ranges)):
                    if ranges[k, 0] <= point <= ranges[k, 1]:
                        out[row] = True
                if out[row]:
                    break
    return out
