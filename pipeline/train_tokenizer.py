"""Train the byte-level BPE tokenizer on a seeded sample of the documents: DOCS → tokenizer.json.

The sample is whole documents in an order given by a hash of their ids, until `sample_bytes` are reached: the same documents
give the same bytes, and a larger corpus costs no more. Memory: the sample. Paper: Sennrich et al. 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import xxhash

from model.tokenizer import train_bpe
from pipeline.errors import UserError
from pipeline.params import TrainTokenizer
from pipeline.stage import Metrics
from pipeline.tables import read_batches


def run(params: TrainTokenizer, *, docs: Path, out: Path) -> Metrics:
    """Raises: `UserError` when there is no text to train on."""
    sample = sample_texts(docs, params.sample_bytes, params.seed)
    if not sample:
        raise UserError(
            "train_tokenizer: there is no text to train on", f"no documents in {docs}", "loosen the filter's thresholds"
        )
    tokenizer = train_bpe(iter(sample), params.vocab_size, params.pattern)
    tokenizer.save(out / "tokenizer.json")
    n_bytes = sum(len(text.encode()) for text in sample)
    n_tokens = sum(len(ids) for ids in tokenizer.encode_batch(sample))
    print(
        f"train_tokenizer: {tokenizer.vocab_size} tokens from {n_bytes / 1e6:.1f} MB, {n_bytes / n_tokens:.2f} bytes a token"
    )
    return {
        "sample_docs": len(sample),
        "sample_bytes": n_bytes,
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": n_bytes / n_tokens,
    }


def sample_texts(docs: Path, sample_bytes: int, seed: int) -> list[str]:
    """Texts in the order of a seeded hash of their ids, the first `sample_bytes` of them.

    Two passes: the first reads ids and sizes, the second keeps the chosen texts."""
    order = sorted((xxhash.xxh3_64_intdigest(id_.encode(), seed), n_bytes) for id_, n_bytes in _sizes(docs))
    total, last = 0, -1
    for key, n_bytes in order:
        if total >= sample_bytes:
            break
        total, last = total + n_bytes, key
    picked: list[tuple[int, str]] = []
    for batch in read_batches(docs, ["id", "text"]):
        ids, texts = batch.column("id").to_pylist(), batch.column("text")
        for row, id_ in enumerate(ids):
            key = xxhash.xxh3_64_intdigest(id_.encode(), seed)
            if key <= last:
                picked.append((key, texts[row].as_py()))
    return [text for _, text in sorted(picked)]


def _sizes(docs: Path) -> Iterator[tuple[str, int]]:
    for batch in read_batches(docs, ["id", "text"]):
        texts = batch.column("text")
        yield from zip(batch.column("id").to_pylist(), (len(text.as_buffer()) for text in texts), strict=True)
