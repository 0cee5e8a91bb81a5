"""Train the tokenizer on a seeded sample of the documents.

In: DOCS. Out: tokenizer.json, tokenizer_config.json for AutoTokenizer, report.json and report.md.

The sample consists of whole documents in an order given by a hash of their ids, until `sample_bytes` are reached, or each
source's share of them (pipeline/storage/sample.py): the same documents give the same bytes. It is stored on disk. Memory: 100
bytes per sampled document, the texts of one file, and the distinct words of the sample (for `char`, characters). Time: two passes
over the documents, three over the sample. The kinds and their papers: model/tokenizer/kinds.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.tokenizer.autotokenizer import save_tokenizer
from model.tokenizer.kinds import train_tokenizer
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics, write_json
from pipeline.storage.sample import write_sample
from pipeline.storage.tables import read_batches
from pipeline.train_tokenizer.params import TrainTokenizer
from pipeline.train_tokenizer.tokenizer_report import OURS, measure_vocabulary, render_markdown

HELDOUT_FRAC = 0.1  # of the sample's bytes, sampled in addition for the report


def run(params: TrainTokenizer, *, docs: Path, out: Path) -> Metrics:
    """Write the tokenizer and its report. Raises `UserError` for a sample without text, or without a source that has a share."""
    sample = out / "sample"
    write_sample(docs, sample, params.shares or {"": 1.0}, params.sample_bytes, params.seed, HELDOUT_FRAC)
    check_shares(sample, params.shares or {"": 1.0}, docs)
    tokenizer = train_tokenizer(params.kind, read_sampled_texts(sample), params.vocab_size, params.pattern)
    save_tokenizer(out, tokenizer)
    report = measure_vocabulary(sample, tokenizer)
    shutil.rmtree(sample)
    write_json(out / "report.json", report)
    (out / "report.md").write_text(render_markdown(report), encoding="utf-8")
    metrics = summarize_report(report)
    print(
        f"train_tokenizer: {tokenizer.vocab_size} tokens from {metrics['sample_bytes'] / 1e6:.1f} MB, "
        f"{metrics['bytes_per_token']:.2f} bytes/token, {metrics['heldout_bytes_per_token']:.2f} on other documents"
    )
    return metrics


def read_sampled_texts(sample: Path) -> Iterator[str]:
    """Yield the texts to train on, reading one file at a time."""
    for batch in read_batches(sample, ["text", "is_heldout"]):
        for text, is_heldout in zip(batch.column("text"), batch.column("is_heldout"), strict=True):
            if not is_heldout.as_py():
                yield text.as_py()


def check_shares(sample: Path, shares: dict[str, float], docs: Path) -> None:
    """Raise `UserError` if the sample is empty or has no document of one of these prefixes."""
    sources = {
        source for batch in read_batches(sample, ["source"]) for source in batch.column("source").unique().to_pylist()
    }
    if not sources:
        raise UserError(
            "train_tokenizer: there is no text to train on",
            f"no documents in {docs}" if shares == {"": 1.0} else f"none of {', '.join(shares)} in {docs}",
            "loosen the filter's thresholds" if shares == {"": 1.0} else "correct train_tokenizer.shares",
        )
    missing = [prefix for prefix in shares if not any(source.startswith(prefix) for source in sources)]
    if missing:
        raise UserError(
            f"train_tokenizer.shares: there is no text of {', '.join(missing)}",
            f"sources: {', '.join(sorted(sources)[:20])}",
            "correct the prefix, or remove it",
        )


def summarize_report(report: dict[str, Any]) -> Metrics:
    """Return flat metrics. `bytes_per_token` is measured on the sample, the other ratios on held-out documents if there are any."""
    sample = report["sample"]
    by_source = {f"sample_bytes_{row['source']}": row["sample_bytes"] for row in report["sources"]}
    return {
        "sample_docs": sample["docs"],
        "sample_bytes": sample["bytes"],
        "vocab_size": report["vocab_size"],
        "bytes_per_token": sample["bytes"] / sample["tokens"],
        "heldout_bytes_per_token": report["bytes_per_token"][OURS],
        "unused_tokens": report["unused_tokens"]["n"],
        **by_source,
        **{f"bytes_per_token_{row['source']}": row["bytes_per_token"][OURS] for row in report["sources"]},
    }
