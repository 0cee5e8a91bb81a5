"""Shingles and signatures agree with xxhash and datasketch."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedupe.minhash.clusters import compute_jaccard
from pipeline.dedupe.minhash.shingles import Shingles, join_rows, make_sets, select_rows, shingle
from pipeline.dedupe.minhash.signatures import SCHEME, compute_band_keys, compute_signatures, draw_permutations
from pipeline.text.normalize import fold, split_words

SENTENCES = st.lists(
    st.lists(st.sampled_from(["a", "bb", "the", "über", "你", "x_1", "return", "of"]), max_size=30), max_size=5
)


def make_shingles(texts: list[str], n: int = 5) -> Shingles:
    return shingle(split_words(fold(pa.array(texts, pa.string()))), n)


def rows(shingles: Shingles) -> list[list[int]]:
    bounds = shingles.offsets.tolist()
    return [shingles.hashes[a:b].tolist() for a, b in itertools.pairwise(bounds)]


@given(SENTENCES, st.integers(1, 6))
def test_a_shingle_is_the_xxh64_of_its_words(sentences: list[list[str]], n: int) -> None:
    texts = [" ".join(words) for words in sentences]
    expected = [
        [xxhash.xxh64_intdigest(" ".join(words[i : i + n]).encode()) for i in range(len(words) - n + 1)]
        for words in sentences
    ]
    got = make_shingles(texts, n)
    assert rows(got) == expected
    assert rows(make_sets(got)) == [sorted(set(row)) for row in expected]


@given(SENTENCES)
def test_joining_and_selecting_move_whole_rows(sentences: list[list[str]]) -> None:
    texts = [" ".join(words) for words in sentences]
    whole = make_shingles(texts, 2)
    assert rows(join_rows([make_shingles([text], 2) for text in texts])) == rows(whole)
    backwards = np.arange(len(texts))[::-1]
    assert rows(select_rows(whole, backwards)) == rows(whole)[::-1]


@given(SENTENCES, st.integers(1, 200), st.integers(0, 2**31 - 1))
@settings(max_examples=50)
def test_signatures_equal_datasketch(sentences: list[list[str]], n_permutations: int, seed: int) -> None:
    import datasketch  # not for all workers: 0.6 s

    texts = [" ".join(words) for words in sentences]
    got = compute_signatures(make_shingles(texts, 3), draw_permutations(n_permutations, seed))
    for words, signature in zip(sentences, got, strict=True):
        peer = datasketch.MinHash(n_permutations, seed, hashfunc=hash32, scheme=SCHEME)
        peer.update_batch([" ".join(words[i : i + 3]).encode() for i in range(len(words) - 2)])
        assert peer.hashvalues.dtype == signature.dtype
        assert peer.hashvalues.tolist() == signature.tolist()


def hash32(shingle_bytes: bytes) -> int:
    return xxhash.xxh64_intdigest(shingle_bytes) & 0xFFFFFFFF


@pytest.mark.parametrize("shared", [20, 50, 80, 95])
def test_the_estimate_is_within_three_sigma_of_the_true_jaccard(shared: int) -> None:
    generator = random.Random(shared)
    n = 1024
    for _ in range(5):
        numbers = [generator.getrandbits(64) for _ in range(300 - shared)]
        common = [generator.getrandbits(64) for _ in range(3 * shared)]
        half = len(numbers) // 2
        sets = make_sets(pair(common + numbers[:half], common + numbers[half:]))
        true = float(compute_jaccard(sets, np.array([0]), np.array([1]))[0])
        a, b = compute_signatures(sets, draw_permutations(n, 1))
        assert abs(float(np.mean(a == b)) - true) < 3 * math.sqrt(true * (1 - true) / n) + 1e-9


def pair(left: list[int], right: list[int]) -> Shingles:
    return Shingles(np.array(left + right, np.uint64), np.array([0, len(left), len(left) + len(right)]))


def test_band_keys_are_equal_exactly_where_the_rows_of_a_band_are() -> None:
    signed = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 9, 4, 5, 6], [7, 2, 3, 4, 5, 6]], np.uint32)
    keys = compute_band_keys(signed, 3, 2)
    assert (keys[0] == keys[1]).tolist() == [True, False, True]
    assert (keys[0] == keys[2]).tolist() == [False, True, True]
    assert int(keys[0, 1]) == xxhash.xxh64_intdigest(np.array([3, 4], np.uint32).tobytes())


def test_text_without_enough_words_has_no_shingle_and_the_empty_signature() -> None:
    import datasketch

    short = make_shingles(["four words are few", "", "!!!"])
    assert rows(short) == [[], [], []]
    assert (compute_signatures(short, draw_permutations(8, 1)) == 0xFFFFFFFF).all()
    assert datasketch.MinHash(8, 1).hashvalues.tolist() == [0xFFFFFFFF] * 8


def test_no_documents() -> None:
    none = make_shingles([])
    assert rows(none) == []
    assert compute_signatures(none, draw_permutations(8, 1)).shape == (0, 8)
    assert compute_band_keys(compute_signatures(none, draw_permutations(8, 1)), 4, 2).shape == (0, 4)


def test_text_without_spaces_has_shingles() -> None:
    assert len(rows(make_shingles(["这是一个没有空格的句子"]))[0]) == 11 - 4
