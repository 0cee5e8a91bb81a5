"""Tokens count as new if the line they are in is in no training document, whatever the blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluate.heldout import boilerplate
from pipeline.evaluate.heldout.boilerplate import TokenBytes, cut_blocks, find_new_tokens

BOS = 0
SPELLINGS = [b"", b"a", b"b", b" b", b"\n", b".\n\n", b"  "]
TOKENS = TokenBytes.of(SPELLINGS)
Ids = st.lists(st.integers(1, len(SPELLINGS) - 1), max_size=12)


def join(documents: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([token for ids in documents for token in (BOS, *ids)], dtype=np.uint16)


def find_new(document: Sequence[int], training: Sequence[Sequence[int]]) -> list[bool]:
    return find_new_tokens([[BOS, *document]], join(training), TOKENS, BOS)[0].tolist()


def define_new(document: Sequence[int], training: Sequence[Sequence[int]]) -> list[bool]:
    """Say the same with Python's strings."""
    known = {line.strip() for ids in training for line in b"".join(SPELLINGS[token] for token in ids).split(b"\n")}
    text, position, is_new = b"".join(SPELLINGS[token] for token in document), 0, list[bool]()
    for token in document:
        line = text[text.rfind(b"\n", 0, position) + 1 :].split(b"\n")[0].strip()
        is_new.append(line != b"" and line not in known)
        position += len(SPELLINGS[token])
    return is_new


@settings(deadline=None)
@given(Ids, st.lists(Ids, min_size=1, max_size=4), st.sampled_from([1, 5, 1 << 19]))
def test_equals_the_definition(document: list[int], training: list[list[int]], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boilerplate, "BLOCK_TOKENS", block)
        assert find_new(document, training) == define_new(document, training)


def test_white_space_around_a_line_does_not_count() -> None:
    assert find_new([1, 4, 2, 4, 1, 2], [[6, 1, 6], [3, 4]]) == [False, False, False, False, True, True]


def test_the_end_of_one_document_and_the_beginning_of_the_next_are_no_line() -> None:
    assert find_new([1, 2], [[1], [2]]) == [True, True]


@given(st.lists(Ids, min_size=1, max_size=6), st.integers(1, 20))
def test_blocks_are_whole_documents(training: list[list[int]], block: int) -> None:
    stream = join(training)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boilerplate, "BLOCK_TOKENS", block)
        blocks = list(cut_blocks(stream, BOS))
    assert np.concatenate(blocks).tolist() == stream.tolist()
    assert all(part[0] == BOS for part in blocks)
    assert all(len(part) <= block or (part == BOS).sum() == 1 for part in blocks)


def test_no_documents() -> None:
    assert find_new_tokens([], join([[1]]), TOKENS, BOS) == []
