"""Train the tokenizer on a seeded sample of the documents: DOCS → tokenizer.json.

The sample is whole documents in an order given by a hash of their ids, until `sample_bytes` are reached (pipeline/sample.py): the
same documents give the same bytes, and a larger corpus costs no more. Memory: twice the sample. The kinds and their
papers: model/vocabulary.py.
"""

from __future__ import annotations

from pathlib import Path

from model.vocabulary import train_tokenizer
from pipeline.errors import UserError
from pipeline.params import TrainTokenizer
from pipeline.sample import sample_docs
from pipeline.stage import Metrics


def run(params: TrainTokenizer, *, docs: Path, out: Path) -> Metrics:
    """Raises: `UserError` when there is no text to train on."""
    sample: list[str] = sample_docs(docs, ["text"], params.sample_bytes, params.seed).column("text").to_pylist()
    if not sample:
        raise UserError(
            "train_tokenizer: there is no text to train on", f"no documents in {docs}", "loosen the filter's thresholds"
        )
    tokenizer = train_tokenizer(params.kind, iter(sample), params.vocab_size, params.pattern)
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
