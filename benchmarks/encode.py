"""Texts to token ids: the shard stage's encoder beside `tokenizers` with the same tokenizer.json, equal ids."""

from __future__ import annotations

import json
import pydoc_data.topics
from typing import Any

from benchmarks.measure import Result, rates
from model.tokenizer import train_bpe
from pipeline.text.encode import check_same, fast_encoder

COPIES = 20


def run() -> Result:
    """Bytes a second on all cores; raises if one id differs."""
    texts = list(pydoc_data.topics.topics.values())
    tokenizer = train_bpe(iter(texts), 4_096)
    encode = fast_encoder(json.dumps(json.loads(tokenizer._text)))  # pyright: ignore[reportPrivateUsage]
    check_same(encode, tokenizer.encode_batch, texts)
    work = texts * COPIES

    def ours() -> Any:
        return encode(work)

    def peer() -> Any:
        return tokenizer.encode_batch(work)

    n_bytes = sum(len(text.encode()) for text in work)
    fast, slow = rates(ours, peer, n_bytes)
    return Result(f"{n_bytes / 1e6:.0f} MB of documentation, vocabulary 4,096", "bytes/s", fast, slow, "tokenizers")
