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

from model.tokenizer.tokenizer import Tokenizer
from pipeline.text.unicode_differences import get_differences

Encoded = tuple[NDArray[np.uint32], NDArray[np.int64]]
Encode = Callable[[Sequence[str]], Encoded]

CHECKED_CHARS = 4_000  # of each text of a sample: a book of 10 MB takes `tokenizers` ten seconds


def make_fast_encoder(tokenizer_json: str) -> Encode:
    """Return a function that maps texts to (concatenated ids, number of ids per text)."""
    description = json.loads(tokenizer_json)
    if description["model"]["type"] != "BPE" or description["model"].get("byte_fallback"):
        return make_slow_encoder(tokenizer_json)
    description["added_tokens"] = []
    encoder = gigatoken.Tokenizer.from_json(json.dumps(description))
    get_slow_encoder = cache(partial(make_slow_encoder, tokenizer_json))
    ranges = "".join(f"\\x{{{first:X}}}-\\x{{{last:X}}}" for first, last in get_differences())
    different = f"[{ranges}]" if ranges else ""

    def encode(texts: Sequence[str]) -> Encoded:
        rows = find_matching(texts, different)
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


def find_matching(texts: Sequence[str], expression: str) -> list[int]:
    """Return the positions of the texts in which RE2 finds `expression`, a set of characters beyond ASCII; none if it is empty."""
    rows = [row for row, text in enumerate(texts) if not text.isascii()] if expression else []
    if not rows:
        return []
    is_match = pc.match_substring_regex(pa.array([texts[row] for row in rows], pa.large_string()), expression)
    return np.asarray(rows)[is_match.to_numpy(zero_copy_only=False)].tolist()


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
