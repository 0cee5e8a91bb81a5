"""Cut texts into lines or paragraphs, hash these pieces and remove some of them.

In: an Arrow column of texts. Out: the bounds of its pieces, a 64-bit hash and a length for each, the texts without some of them. A
line ends with its line feed, a paragraph with the blank lines that follow it, so that the pieces of a text concatenate to the text.
Two pieces are the same if their texts agree after folding case, compatibility characters and white space, as for documents. Memory
and time: linear in the column; callers pass one batch at a time.

Wenzek et al. 2020 (CCNet) hash normalized lines and keep the first; Soldaini et al. 2024 (Dolma) do so with paragraphs.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dedupe.minhash.visible import fold_visible
from pipeline.text.columns import Bytes, Hashes, Offsets, Rows, from_utf8, to_utf8
from pipeline.text.hashing import xxh64
from pipeline.text.normalize import squeeze

Unit: TypeAlias = Literal["lines", "paragraphs"]


class TextPieces(NamedTuple):
    """Hold the pieces of a column: piece i is `data[bounds[i]:bounds[i + 1]]`; row r owns pieces `offsets[r]` to `offsets[r +
    1]`."""

    bounds: Offsets
    offsets: Offsets

    def list_rows(self) -> Rows:
        """Return the row of each piece."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def cut_pieces(texts: pa.StringArray, unit: Unit) -> TextPieces:
    """Return the pieces of every row, in order."""
    data, offsets = to_utf8(texts)
    return TextPieces(*_cut_pieces(data, offsets, unit == "paragraphs"))


def hash_pieces(texts: pa.StringArray, pieces: TextPieces) -> tuple[Hashes, Rows]:
    """Return (XXH64 of each piece after normalization, its number of characters after normalization)."""
    data, _ = to_utf8(texts)
    first, last = int(pieces.bounds[0]), int(pieces.bounds[-1])
    squeezed = squeeze(fold_visible(from_utf8(data[first:last], pieces.bounds - first)))
    return _hash_rows(*to_utf8(squeezed)), pc.utf8_length(squeezed).cast(pa.int64()).to_numpy()


def remove_pieces(texts: pa.StringArray, pieces: TextPieces, is_removed: npt.NDArray[np.bool_]) -> pa.StringArray:
    """Return the texts without the flagged pieces; a text that has lost some neither begins nor ends with a line feed."""
    data, _ = to_utf8(texts)
    return from_utf8(*_remove_pieces(data, pieces.bounds, pieces.offsets, is_removed))


@numba.njit(cache=True, nogil=True)
def _cut_pieces(
    data: Bytes, offsets: Offsets, is_by_paragraph: bool
) -> tuple[Offsets, Offsets]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    bytes_used = data[offsets[0] : offsets[n_rows]]
    n_feeds = np.int64(0)
    for i in range(len(bytes_used)):
        n_feeds += bytes_used[i] == 10
    bounds = np.empty(n_feeds + n_rows + 1, np.int64)
    owned = np.zeros(n_rows + 1, np.int64)
    n = np.int64(0)
    bounds[0] = offsets[0]
    for row in range(n_rows):
        i, stop = offsets[row], offsets[row + 1]
        has_words = False  # of the current piece
        was_blank = False
        while i < stop:
            start, is_blank = i, True
            while i < stop and data[i] != 10:
                is_blank &= (data[i] == 32) | ((data[i] >= 9) & (data[i] <= 13))
                i += 1
            i = min(i + 1, stop)
            if not is_by_paragraph:
                n += 1
                bounds[n] = i
                continue
            if has_words and was_blank and not is_blank:
                n += 1
                bounds[n] = start
            has_words |= not is_blank
            was_blank = is_blank
        if is_by_paragraph and stop > offsets[row]:
            n += 1
            bounds[n] = stop
        owned[row + 1] = n
    return bounds[: n + 1], owned


@numba.njit(cache=True, nogil=True)
def _hash_rows(data: Bytes, offsets: Offsets) -> Hashes:  # pragma: no cover (compiled)
    out = np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(out)):
        out[row] = xxh64(data, offsets[row], offsets[row + 1])
    return out


@numba.njit(cache=True, nogil=True)
def _remove_pieces(
    data: Bytes, bounds: Offsets, offsets: Offsets, is_removed: npt.NDArray[np.bool_]
) -> tuple[Bytes, Offsets]:  # pragma: no cover (compiled)
    out = np.empty(bounds[-1] - bounds[0], np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    n = np.int64(0)
    for row in range(len(offsets) - 1):
        first, is_changed = n, False
        for piece in range(offsets[row], offsets[row + 1]):
            is_changed |= is_removed[piece]
        for piece in range(offsets[row], offsets[row + 1]):
            if is_removed[piece]:
                continue
            for i in range(bounds[piece], bounds[piece + 1]):
                if is_changed and n == first and data[i] == 10:
                    continue
                out[n] = data[i]
                n += 1
        while is_changed and n > first and out[n - 1] == 10:
            n -= 1
        ends[row + 1] = n
    return out[:n], ends
