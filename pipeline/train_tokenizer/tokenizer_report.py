"""Report how well a vocabulary fits a corpus: bytes per token by source, next to other vocabularies; longest and unused tokens.

In: a sample of documents (pipeline/storage/sample.py), a tokenizer, optionally encoders of other vocabularies. Out: a dict of
plain values, and the same as Markdown. Bytes per token are measured on a source's held-out documents, or on its sampled ones if
it has no others; the use of tokens is counted over the sample. Memory: one batch and a count per token. Time: linear; encoding
dominates.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from pipeline.storage.tables import read_batches
from pipeline.text.encode import Encode, check_same, make_fast_encoder

OURS = "ours"
CHECKED_DOCS = 64  # every run checks on them that the fast encoder equals the tokenizer
LONGEST, SHOWN_UNUSED = 30, 60
BATCH_ROWS = 128  # with 2,048, encoding by characters took 1 GB instead of 0.35


class SourceTally:
    """Count documents, bytes and tokens (by encoder) of one source, in the sample (index 0) and held out (index 1)."""

    def __init__(self, names: Sequence[str]) -> None:
        self.n_docs, self.n_bytes = [0, 0], [0, 0]
        self.n_tokens = {name: [0, 0] for name in names}

    def add(self, index: int, n_bytes: npt.NDArray[np.int64], n_tokens: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Add documents: their bytes, and their tokens by encoder."""
        self.n_docs[index] += len(n_bytes)
        self.n_bytes[index] += int(n_bytes.sum())
        for name, counts in n_tokens.items():
            self.n_tokens[name][index] += int(counts.sum())

    def make_row(self, source: str) -> dict[str, Any]:
        """Return the counts as a row of the report."""
        index = 1 if self.n_bytes[1] else 0
        return {
            "source": source,
            "sample_docs": self.n_docs[0],
            "sample_bytes": self.n_bytes[0],
            "is_heldout": index == 1,
            "measured_bytes": self.n_bytes[index],
            "tokens": {name: counts[index] for name, counts in self.n_tokens.items()},
        }


def measure_vocabulary(sample: Path, tokenizer: Tokenizer, peers: Mapping[str, Encode] | None = None) -> dict[str, Any]:
    """Return the report as plain values; `peers` are encoders of other vocabularies by name."""
    encoders = {OURS: make_fast_encoder(tokenizer.text), **(peers or {})}
    counts, is_checked = np.zeros(tokenizer.vocab_size, np.int64), False
    tallies: dict[str, SourceTally] = {}
    for batch in read_batches(sample, batch_rows=BATCH_ROWS):
        texts = batch.column("text").to_pylist()
        if not is_checked:
            check_same(encoders[OURS], tokenizer.encode_batch, texts[:CHECKED_DOCS])
            is_checked = True
        n_bytes = pc.binary_length(batch.column("text")).to_numpy().astype(np.int64)
        heldout = batch.column("is_heldout").to_numpy(zero_copy_only=False)
        n_tokens: dict[str, npt.NDArray[np.int64]] = {}
        for name, encode in encoders.items():
            ids, n_tokens[name] = encode(texts)
            if name == OURS:
                counts += np.bincount(ids[np.repeat(~heldout, n_tokens[name])], minlength=len(counts))
        _add_batch(tallies, batch.column("source"), n_bytes, heldout, n_tokens)
    rows = [tallies[source].make_row(source) for source in sorted(tallies)]
    return {
        "vocab_size": tokenizer.vocab_size,
        "special_tokens": list(SPECIAL_TOKENS),
        "sample": {name: sum(row[f"sample_{name}"] for row in rows) for name in ("docs", "bytes")}
        | {"tokens": int(counts.sum())},
        "bytes_per_token": compute_bytes_per_token(rows),
        "sources": [
            {key: value for key, value in row.items() if key != "tokens"}
            | {"bytes_per_token": compute_bytes_per_token([row])}
            for row in rows
        ],
        "longest_tokens": _list_longest(tokenizer, counts),
        "unused_tokens": _list_unused(tokenizer, counts),
    }


def _add_batch(
    tallies: dict[str, SourceTally],
    sources: pa.Array,
    n_bytes: npt.NDArray[np.int64],
    heldout: npt.NDArray[np.bool_],
    n_tokens: Mapping[str, npt.NDArray[np.int64]],
) -> None:
    coded = sources.dictionary_encode()
    codes = coded.indices.to_numpy()
    for code, source in enumerate(coded.dictionary.to_pylist()):
        tally = tallies.setdefault(source, SourceTally(list(n_tokens)))
        for index, is_member in enumerate((~heldout, heldout)):
            rows = (codes == code) & is_member
            tally.add(index, n_bytes[rows], {name: lengths[rows] for name, lengths in n_tokens.items()})


def compute_bytes_per_token(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return bytes per token over all rows, by vocabulary; 0 if there is no text."""
    n_bytes = sum(row["measured_bytes"] for row in rows)
    return {name: n_bytes / max(sum(row["tokens"][name] for row in rows), 1) for name in rows[0]["tokens"]}


def _list_longest(tokenizer: Tokenizer, counts: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    ids = sorted(
        range(len(SPECIAL_TOKENS), len(counts)), key=lambda index: (-len(tokenizer.decode_bytes([index])), index)
    )
    return [{**_describe_token(tokenizer, index), "n_used": int(counts[index])} for index in ids[:LONGEST]]


def _list_unused(tokenizer: Tokenizer, counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the learned tokens that the sample never uses. Single bytes are counted apart: they exist so that any text can be
    encoded."""
    unused = [int(index) for index in np.flatnonzero(counts == 0) if index >= len(SPECIAL_TOKENS)]
    learned = [index for index in unused if len(tokenizer.decode_bytes([index])) > 1]
    return {
        "n": len(learned),
        "n_single_bytes": len(unused) - len(learned),
        "tokens": [_describe_token(tokenizer, index) for index in learned],
    }


def _describe_token(tokenizer: Tokenizer, index: int) -> dict[str, Any]:
    spelling = tokenizer.decode_bytes([index])
    return {"id": index, "text": spelling.decode("utf-8", errors="backslashreplace"), "n_bytes": len(spelling)}


def _quote_text(text: str) -> str:
    """Return text in quotation marks on one line, with printable characters unescaped."""
    return "'" + "".join(each if each.isprintable() else repr(each)[1:-1] for each in text) + "'"


def render_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown; the same values give the same bytes."""
    lines = ["# The vocabulary", "", describe_vocabulary(report), "", "## Bytes a token, by source", ""]
    head, rows = make_rows(report)
    lines += ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += ["", "Measured on documents outside the sample; a source marked * has none, so on its sample.", ""]
    lines += ["## Longest tokens", "", "```text"]
    lines += [
        f"{token['n_bytes']:4d} bytes {token['n_used']:9,d} x  {_quote_text(token['text'])}"
        for token in report["longest_tokens"]
    ]
    unused = report["unused_tokens"]
    lines += ["```", "", "## Tokens that the sample never needs", ""]
    lines += [f"{unused['n']} learned tokens, and {unused['n_single_bytes']} single bytes.", ""]
    if unused["n"]:
        shown = " ".join(_quote_text(token["text"]) for token in unused["tokens"][:SHOWN_UNUSED])
        lines += ["```text", shown + (" …" if unused["n"] > SHOWN_UNUSED else ""), "```", ""]
    return "\n".join(lines)


def describe_vocabulary(report: Mapping[str, Any]) -> str:
    """Return one line about the vocabulary and its sample."""
    sample, n_special = report["sample"], len(report["special_tokens"])
    return (
        f"{report['vocab_size']} tokens, {n_special} of them special ({', '.join(report['special_tokens'][:8])} and "
        f"{n_special - 8} spare), trained on {sample['docs']:,} documents, {sample['bytes'] / 1e6:.1f} MB."
    )


def make_rows(report: Mapping[str, Any], n_sources: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Return (column names, rows): the `n_sources` sources with the most text in the sample, then the total."""
    names = list(report["bytes_per_token"])
    sources = sorted(report["sources"], key=lambda row: (-row["sample_bytes"], row["source"]))[:n_sources]
    rows = [
        [
            row["source"] + ("" if row["is_heldout"] else " *"),
            f"{row['sample_bytes'] / 1e6:.2f}",
            *(f"{row['bytes_per_token'][name]:.3f}" for name in names),
        ]
        for row in sources
    ]
    total = [
        "all",
        f"{report['sample']['bytes'] / 1e6:.2f}",
        *(f"{report['bytes_per_token'][name]:.3f}" for name in names),
    ]
    return ["Source", "MB in the sample", *names], [*rows, total]
