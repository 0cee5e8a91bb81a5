"""Encode texts to token ids with the fastest library that gives exactly the tokenizer's own ids.

gigatoken encodes with the same tokenizer.json some 20 times faster than `tokenizers`. It supports byte-level BPE with the split
patterns gpt2, cl100k and qwen2; `tokenizers` encodes for other kinds, and texts with a character that the two classify differently
(pipeline/text/unicode_differences.py). Special tokens are removed from the description that gigatoken reads, so that they are
ordinary text in a corpus. `check_same` verifies on a sample, in every run, that both give the same ids. Memory: the ids of one
batch. Time: linear, on all cores; texts that are not ASCII are scanned for those characters at 600 MB/s.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial

import awkward as ak
import gigatoken
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.tokenizer.kinds import make_probe
from model.tokenizer.tokenizer import Tokenizer
from pipeline.text.unicode_differences import CONTEXTS, Ranges, get_measured, join_ranges

Encoded = tuple[NDArray[np.uint32], NDArray[np.int64]]
Encode = Callable[[Sequence[str]], Encoded]

BATCH = 1 << 15  # characters that are compared at a time
CHECKED_CHARS = 4_000  # of each text of a sample: a book of 10 MB takes `tokenizers` ten seconds


def make_fast_encoder(tokenizer_json: str) -> Encode:
    """Return a function that maps texts to (concatenated ids, number of ids per text)."""
    encoder = make_library_encoder(tokenizer_json)
    if encoder is None:
        return make_slow_encoder(tokenizer_json)
    get_slow_encoder = cache(partial(make_slow_encoder, tokenizer_json))
    measured = get_measured()
    ranges = find_differences() if measured is None else measured
    different = "".join(f"\\x{{{first:X}}}-\\x{{{last:X}}}" for first, last in ranges)

    def encode(texts: Sequence[str]) -> Encoded:
        rows = find_texts_with(different, texts)
        others = list(texts)
        for row in rows:
            others[row] = ""
        encoded = encoder.encode_batch(others)
        ids, lengths = np.asarray(ak.flatten(encoded), dtype=np.uint32), np.array(ak.num(encoded), dtype=np.int64)
        if not rows:
            return ids, lengths
        more, n_more = get_slow_encoder()([texts[row] for row in rows])
        starts = (np.cumsum(lengths) - lengths)[rows]
        lengths[rows] = n_more
        return np.insert(ids, np.repeat(starts, n_more), more), lengths

    return encode


def find_texts_with(characters: str, texts: Sequence[str]) -> list[int]:
    """Return the positions of the texts with one of these characters, which are ranges of an RE2 set beyond ASCII."""
    rows = [row for row, text in enumerate(texts) if not text.isascii()] if characters else []
    if not rows:
        return []
    is_match = pc.match_substring_regex(pa.array([texts[row] for row in rows], pa.large_string()), f"[{characters}]")
    return np.asarray(rows)[is_match.to_numpy(zero_copy_only=False)].tolist()


def make_library_encoder(tokenizer_json: str) -> gigatoken.Tokenizer | None:
    """Return gigatoken's own tokenizer, for which special tokens are ordinary text, or None for a kind that it does not support."""
    description = json.loads(tokenizer_json)
    if description["model"]["type"] != "BPE" or description["model"].get("byte_fallback"):
        return None
    return gigatoken.Tokenizer.from_json(json.dumps({**description, "added_tokens": []}))


@cache
def find_differences(pattern: str = "cl100k", step: int = 1) -> Ranges:
    """Encode every character (or every `step`-th) in each context with both libraries; return the ranges whose ids differ."""
    slow, different = make_probe(pattern, "a1 !\n'"), list[int]()
    fast = make_library_encoder(slow.text)
    assert fast is not None
    for start in range(0, 0x110000, BATCH):
        points = [point for point in range(start, start + BATCH, step) if not 0xD800 <= point < 0xE000]
        texts = [CONTEXTS.format(chr(point)) for point in points]
        pairs = zip(slow.encode_batch(texts), fast.encode_batch_list(texts), strict=True)
        different += [point for point, (expected, ids) in zip(points, pairs, strict=True) if expected != ids]
    return join_ranges(different)


def make_slow_encoder(tokenizer_json: str) -> Encode:
    """Return the same function based on the tokenizer itself, for kinds that gigatoken does not support."""
    tokenizer = Tokenizer(tokenizer_json)

    def encode(texts: Sequence[str]) -> Encoded:
        rows = tokenizer.encode_batch(texts)
        flat = np.fromiter((index for row in rows for index in row), np.uint32)
        return flat, np.array([len(row) for row in rows], np.int64)

    return encode


def check_same(encode: Encode, reference: Callable[[Sequence[str]], list[list[int]]], sample: Sequence[str]) -> None:
    """Raise `ValueError` if the ids of the fast encoder differ from the tokenizer's own on the beginnings of the texts."""
    sample = [text[:CHECKED_CHARS] for text in sample]
    ids, lengths = encode(sample)
    wanted = reference(sample)
    at = 0
    for text, length, expected in zip(sample, lengths, wanted, strict=True):
        if ids[at : at + length].tolist() != expected:
            raise ValueError(f"the fast encoder and the tokenizer disagree on {text[:80]!r}")
        at += int(length)
