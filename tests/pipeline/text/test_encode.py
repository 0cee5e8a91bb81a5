"""The fast encoder gives the tokenizer's own ids on any text: each character, each sequence of classes, each kind of tokenizer."""

from __future__ import annotations

import itertools
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.tokenizer.kinds import make_probe, train_tokenizer
from model.tokenizer.tokenizer import SPLIT_PATTERNS, Tokenizer
from pipeline.text.encode import Encode, find_differences, make_fast_encoder, make_library_encoder
from pipeline.text.unicode_differences import CONTEXTS, MEASURED, MEASURED_WITH, get_measured, join_ranges

TEXTS = ["the cat's mat, 1234!  it'll 're", "\u4e2d\u6587\u00e9 \u88a2", "\u0888\u0889 \U00010941 \ua7ce x\n\n  y"] * 4
KINDS = [*(("bpe", pattern) for pattern in SPLIT_PATTERNS), ("wordpiece", "cl100k"), ("char", "cl100k")]
TOKENIZERS = {"-".join(kind): train_tokenizer(kind[0], TEXTS, 700, kind[1]) for kind in KINDS}
ENCODERS = {name: make_fast_encoder(tokenizer.text) for name, tokenizer in TOKENIZERS.items()}
POINTS = sorted({point for pair in MEASURED for point in (*pair, sum(pair) // 2)})
different = st.sampled_from(list(map(chr, POINTS)))
any_plane = st.integers(0, 0x10FFFF).filter(lambda point: not 0xD800 <= point < 0xE000).map(chr)
common = st.sampled_from("aslS\u017f\u212a1\u00b2 \n\r\t\u00a0\u0085!'\u0301\u200d\U0001f389\u4e2d")
any_text = st.lists(st.one_of(common, common, any_plane, different)).map("".join)
# One or two of each class: letters that begin contractions or fold to such, numbers, white space, line breaks, all others.
CLASSES = "as\u017fl1\u00b2 \n\r\u00a0!'\u0301"


def make_both(pattern: str) -> tuple[Tokenizer, Any]:
    """Return a tokenizer whose ids show every split, and the library's own encoder of it."""
    probe = make_probe(pattern, "a1 !\n'")
    return probe, make_library_encoder(probe.text)


def encode_rows(encode: Encode, texts: list[str]) -> list[list[int]]:
    ids, lengths = encode(texts)
    flat = iter(ids.tolist())
    return [list(itertools.islice(flat, length)) for length in lengths.tolist()]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(texts=st.lists(any_text, max_size=4))
@example(texts=[])
@example(texts=["", "\u088f", "", "a\u088fb\U0001e6c0", "plain"])
@settings(max_examples=60)
def test_ids_are_equal_on_any_text(kind: str, texts: list[str]) -> None:
    tokenizer: Tokenizer = TOKENIZERS[kind]
    rows = encode_rows(ENCODERS[kind], texts)
    assert rows == tokenizer.encode_batch(texts)
    assert [tokenizer.decode(row) for row in rows] == texts


@pytest.mark.parametrize("pattern", SPLIT_PATTERNS)
def test_each_differing_character_differs_in_the_library_and_not_in_the_encoder(pattern: str) -> None:
    slow, fast = make_both(pattern)
    encode = make_fast_encoder(TOKENIZERS[f"bpe-{pattern}"].text)
    texts = [CONTEXTS.format(chr(point)) for point in POINTS]
    pairs = zip(slow.encode_batch(texts), fast.encode_batch_list(texts), strict=True)
    assert all(expected != ids for expected, ids in pairs)
    assert encode_rows(encode, texts) == TOKENIZERS[f"bpe-{pattern}"].encode_batch(texts)


@pytest.mark.parametrize("pattern", SPLIT_PATTERNS)
def test_strings_of_equal_classes_are_split_equally(pattern: str) -> None:
    slow, fast = make_both(pattern)
    texts = ["".join(each) for n in range(4) for each in itertools.product(CLASSES, repeat=n)]
    assert slow.encode_batch(texts) == fast.encode_batch_list(texts)


def test_the_table_was_measured_with_the_installed_libraries() -> None:
    """Otherwise every process measures it again: print find_differences() and update the table."""
    points = [point for first, last in MEASURED for point in range(first, last + 1)]
    assert len(points) == 4657
    assert join_ranges(points) == MEASURED
    assert {name: version(name) for name in MEASURED_WITH} == MEASURED_WITH
    assert get_measured() == MEASURED


def test_the_table_agrees_with_the_libraries() -> None:
    """At every 64th character and beside every range. All 1.1 million take 25 processor seconds and were compared when the table
    was printed; the versions that it was printed with are pinned by the test above."""
    inside = {point for first, last in MEASURED for point in range(first, last + 1)}
    assert find_differences(step=64) == join_ranges([point for point in sorted(inside) if point % 64 == 0])
    slow, fast = make_both("cl100k")
    beside = {point for first, last in MEASURED for point in (first - 1, last + 1)} - inside
    texts = [CONTEXTS.format(chr(point)) for point in sorted(beside)]
    assert slow.encode_batch(texts) == fast.encode_batch_list(texts)
