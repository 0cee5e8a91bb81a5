"""How well a vocabulary fits a corpus: bytes a token by source, beside other vocabularies; its longest tokens; those never used.

In: a sample of documents (pipeline/storage/sample.py), a tokenizer, perhaps encoders of others. Out: a dict of plain values, and the same
as Markdown. Bytes a token are measured on the source's held-out documents, or on its sampled ones where it has no others; tokens
are counted over the sample. Memory: one batch and a count for each token. Time: linear, as fast as the encoders.
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
from pipeline.text.encode import Encode, check_same, fast_encoder

OURS = "ours"
CHECKED_DOCS = 64  # on which the fast encoder is proved equal to the tokenizer at every run
LONGEST, SHOWN_UNUSED = 30, 60
BATCH_ROWS = 128  # with 2,048, encoding by characters held 1 GB instead of 0.35


class SourceTally:
    """Documents, bytes and tokens of one source, in the sample and held out; tokens by encoder."""

    def __init__(self, names: Sequence[str]) -> None:
        self.n_docs, self.n_bytes = [0, 0], [0, 0]
        self.n_tokens = {name: [0, 0] for name in names}

    def add(self, place: int, n_bytes: npt.NDArray[np.int64], n_tokens: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """`place`: 0 in the sample, 1 held out."""
        self.n_docs[place] += len(n_bytes)
        self.n_bytes[place] += int(n_bytes.sum())
        for name, counts in n_tokens.items():
            self.n_tokens[name][place] += int(counts.sum())

    def row(self, source: str) -> dict[str, Any]:
        place = 1 if self.n_bytes[1] else 0
        return {
            "source": source,
            "sample_docs": self.n_docs[0],
            "sample_bytes": self.n_bytes[0],
            "is_heldout": place == 1,
            "measured_bytes": self.n_bytes[place],
            "tokens": {name: counts[place] for name, counts in self.n_tokens.items()},
        }


def measure(sample: Path, tokenizer: Tokenizer, peers: Mapping[str, Encode] | None = None) -> dict[str, Any]:
    """Everything the report says."""
    encoders = {OURS: fast_encoder(tokenizer.text), **(peers or {})}
    counts, is_proved = np.zeros(tokenizer.vocab_size, np.int64), False
    tallies: dict[str, SourceTally] = {}
    for batch in read_batches(sample, batch_rows=BATCH_ROWS):
        texts = batch.column("text").to_pylist()
        if not is_proved:
            check_same(encoders[OURS], tokenizer.encode_batch, texts[:CHECKED_DOCS])
            is_proved = True
        n_bytes = pc.binary_length(batch.column("text")).to_numpy().astype(np.int64)
        heldout = batch.column("is_heldout").to_numpy(zero_copy_only=False)
        n_tokens: dict[str, npt.NDArray[np.int64]] = {}
        for name, encode in encoders.items():
            ids, n_tokens[name] = encode(texts)
            if name == OURS:
                counts += np.bincount(ids[np.repeat(~heldout, n_tokens[name])], minlength=len(counts))
        _tally(tallies, batch.column("source"), n_bytes, heldout, n_tokens)
    rows = [tallies[source].row(source) for source in sorted(tallies)]
    return {
        "vocab_size": tokenizer.vocab_size,
        "special_tokens": list(SPECIAL_TOKENS),
        "sample": {name: sum(row[f"sample_{name}"] for row in rows) for name in ("docs", "bytes")}
        | {"tokens": int(counts.sum())},
        "bytes_per_token": bytes_per_token(rows),
        "sources": [
            {key: value for key, value in row.items() if key != "tokens"} | {"bytes_per_token": bytes_per_token([row])}
            for row in rows
        ],
        "longest_tokens": _longest(tokenizer, counts),
        "unused_tokens": _unused(tokenizer, counts),
    }


def _tally(
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
        for place, is_there in enumerate((~heldout, heldout)):
            rows = (codes == code) & is_there
            tally.add(place, n_bytes[rows], {name: lengths[rows] for name, lengths in n_tokens.items()})


def bytes_per_token(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Over all rows, for each vocabulary; 0 where there is no text."""
    n_bytes = sum(row["measured_bytes"] for row in rows)
    return {name: n_bytes / max(sum(row["tokens"][name] for row in rows), 1) for name in rows[0]["tokens"]}


def _longest(tokenizer: Tokenizer, counts: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    ids = sorted(
        range(len(SPECIAL_TOKENS), len(counts)), key=lambda index: (-len(tokenizer.decode_bytes([index])), index)
    )
    return [{**_token(tokenizer, index), "n_used": int(counts[index])} for index in ids[:LONGEST]]


def _unused(tokenizer: Tokenizer, counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Single bytes apart: they are there so that any text can be spelt, used or not."""
    unused = [int(index) for index in np.flatnonzero(counts == 0) if index >= len(SPECIAL_TOKENS)]
    learned = [index for index in unused if len(tokenizer.decode_bytes([index])) > 1]
    return {
        "n": len(learned),
        "n_single_bytes": len(unused) - len(learned),
        "tokens": [_token(tokenizer, index) for index in learned],
    }


def _token(tokenizer: Tokenizer, index: int) -> dict[str, Any]:
    spelt = tokenizer.decode_bytes([index])
    return {"id": index, "text": spelt.decode("utf-8", errors="backslashreplace"), "n_bytes": len(spelt)}


def _shown(text: str) -> str:
    """In quotes, on one line, other letters as they are."""
    return "'" + "".join(each if each.isprintable() else repr(each)[1:-1] for each in text) + "'"


def render(report: Mapping[str, Any]) -> str:
    """The report as Markdown; the same values give the same bytes."""
    lines = ["# The vocabulary", "", sentence(report), "", "## Bytes a token, by source", ""]
    head, rows = table(report)
    lines += ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += ["", "Measured on documents outside the sample; a source marked * has none, so on its sample.", ""]
    lines += ["## Longest tokens", "", "```text"]
    lines += [
        f"{token['n_bytes']:4d} bytes {token['n_used']:9,d} x  {_shown(token['text'])}"
        for token in report["longest_tokens"]
    ]
    unused = report["unused_tokens"]
    lines += ["```", "", "## Tokens that the sample never needs", ""]
    lines += [f"{unused['n']} learned tokens, and {unused['n_single_bytes']} single bytes.", ""]
    if unused["n"]:
        shown = " ".join(_shown(token["text"]) for token in unused["tokens"][:SHOWN_UNUSED])
        lines += ["```text", shown + (" …" if unused["n"] > SHOWN_UNUSED else ""), "```", ""]
    return "\n".join(lines)


def sentence(report: Mapping[str, Any]) -> str:
    """What there is, in one line."""
    sample, n_special = report["sample"], len(report["special_tokens"])
    return (
        f"{report['vocab_size']} tokens, {n_special} of them special ({', '.join(report['special_tokens'][:8])} and "
        f"{n_special - 8} spare), trained on {sample['docs']:,} documents, {sample['bytes'] / 1e6:.1f} MB."
    )


def table(report: Mapping[str, Any], most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Head and rows: the sources with most text in the sample, and all together."""
    names = list(report["bytes_per_token"])
    sources = sorted(report["sources"], key=lambda row: (-row["sample_bytes"], row["source"]))[:most]
    rows = [
        [
            row["source"] + ("" if row["is_heldout"] else " *"),
            f"{row['sample_bytes'] / 1e6:.2f}",
            *(f"{row['bytes_per_token'][name]:.3f}" for name in names),
        ]
        for row in sources
    ]
    whole = [
        "all",
        f"{report['sample']['bytes'] / 1e6:.2f}",
        *(f"{report['bytes_per_token'][name]:.3f}" for name in names),
    ]
    return ["Source", "MB in the sample", *names], [*rows, whole]
