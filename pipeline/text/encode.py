"""Encode texts to token ids with the fastest library that gives exactly the tokenizer's own ids.

gigatoken encodes with the same tokenizer.json some 20 times faster than `tokenizers`. It supports byte-level BPE with the split
patterns gpt2, cl100k and qwen2; `tokenizers` encodes for other kinds. Special tokens are removed from the description that
gigatoken reads, so that they are ordinary text in a corpus. `check_same` verifies on a sample, in every run, that both give the
same ids. Memory: the ids of one batch. Time: linear, on all cores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import awkward as ak
import gigatoken
import numpy as np
from numpy.typing import NDArray

from model.tokenizer.tokenizer import Tokenizer

Encoded = tuple[NDArray[np.uint32], NDArray[np.int64]]
Encode = Callable[[Sequence[str]], Encoded]


def make_fast_encoder(tokenizer_json: str) -> Encode:
    """Return a function that maps texts to (concatenated ids, number of ids per text)."""
    description = json.loads(tokenizer_json)
    if description["model"]["type"] != "BPE" or description["model"].get("byte_fallback"):
        return make_slow_encoder(tokenizer_json)
    description["added_tokens"] = []
    encoder = gigatoken.Tokenizer.from_json(json.dumps(description))

    def encode(texts: Sequence[str]) -> Encoded:
        rows = encoder.encode_batch(list(texts))
        return np.asarray(ak.flatten(rows), dtype=np.uint32), np.asarray(ak.num(rows), dtype=np.int64)

    return encode


def make_slow_encoder(tokenizer_json: str) -> Encode:
    """Return the same function based on the tokenizer itself, for kinds that gigatoken does not support."""
    tokenizer = Tokenizer(tokenizer_json)

    def encode(texts: Sequence[str]) -> Encoded:
        rows = tokenizer.encode_batch(texts)
        flat = np.fromiter((index for row in rows for index in row), np.uint32)
        return flat, np.array([len(row) for row in rows], np.int64)

    return encode


def check_same(encode: Encode, reference: Callable[[Sequence[str]], list[list[int]]], sample: Sequence[str]) -> None:
    """Raise `ValueError` if the ids of the fast encoder differ from the tokenizer's own on the sample."""
    ids, lengths = encode(sample)
    wanted = reference(sample)
    at = 0
    for text, length, expected in zip(sample, lengths, wanted, strict=True):
        if ids[at : at + length].tolist() != expected:
            raise ValueError(f"the fast encoder and the tokenizer disagree on {text[:80]!r}")
        at += int(length)
