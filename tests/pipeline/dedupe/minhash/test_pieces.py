"""Lines and paragraphs agree with Python's string methods."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dedupe.minhash.pieces import Unit, cut_pieces, hash_pieces, remove_pieces

TEXTS = st.lists(st.text(st.sampled_from("aB é1 \t\n\n\n"), max_size=40), max_size=6)
UNITS = st.sampled_from(["lines", "paragraphs"])
SPACES = " \t\n\v\f\r"


def split_by_regex(text: str, unit: Unit) -> list[str]:
    """Split a text; lines keep their line feed, paragraphs end before the first line with words after a blank one."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    if unit == "lines":
        return lines
    made: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if not made or (line.strip(SPACES) and not before.strip(SPACES) and made[-1].strip(SPACES)):
            made.append("")
        made[-1] += line
    return made


def normalize_piece(piece: str) -> str:
    return " ".join(re.findall(r"[^ \t-\r]+", unicodedata.normalize("NFKC", piece).lower()))


@given(TEXTS, UNITS)
def test_the_pieces_concatenate_to_the_text(texts: list[str], unit: Unit) -> None:
    column = pa.array(["before", *texts], pa.string()).slice(1)
    data = "".join(["before", *texts]).encode()
    found = cut_pieces(column, unit)
    bounds = found.bounds.tolist()
    got = [
        [data[bounds[i] : bounds[i + 1]].decode() for i in range(found.offsets[row], found.offsets[row + 1])]
        for row in range(len(texts))
    ]
    assert got == [split_by_regex(text, unit) for text in texts]
    assert found.list_rows().tolist() == [row for row, pieces in enumerate(got) for _ in pieces]
    hashes, n_chars = hash_pieces(column, found)
    expected = [normalize_piece(piece) for pieces in got for piece in pieces]
    assert hashes.tolist() == [xxhash.xxh64_intdigest(piece.encode()) for piece in expected]
    assert n_chars.tolist() == [len(piece) for piece in expected]


@given(TEXTS, UNITS, st.data())
def test_exactly_the_flagged_pieces_are_removed(texts: list[str], unit: Unit, data: st.DataObject) -> None:
    column = pa.array(["before", *texts], pa.string()).slice(1)
    found = cut_pieces(column, unit)
    n = len(found.bounds) - 1
    is_removed = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    expected, at = [], 0
    for text in texts:
        pieces = split_by_regex(text, unit)
        mine = is_removed[at : at + len(pieces)]
        at += len(pieces)
        left = "".join(piece for piece, gone in zip(pieces, mine, strict=True) if not gone)
        expected.append(left.strip("\n") if any(mine) else text)
    assert remove_pieces(column, found, np.array(is_removed, bool)).to_pylist() == expected


@pytest.mark.parametrize("unit", ["lines", "paragraphs"])
def test_no_texts(unit: Unit) -> None:
    none = pa.array([], pa.string())
    found = cut_pieces(none, unit)
    assert found.list_rows().tolist() == []
    assert remove_pieces(none, found, np.zeros(0, bool)).to_pylist() == []
