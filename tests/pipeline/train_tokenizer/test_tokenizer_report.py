"""The report's metrics equal those counted directly with the tokenizer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from model.tokenizer.kinds import KINDS, train_tokenizer
from model.tokenizer.tokenizer import SPECIAL_TOKENS
from pipeline.storage.sample import SAMPLED
from pipeline.storage.tables import ShardWriter
from pipeline.text.encode import make_fast_encoder
from pipeline.train_tokenizer.tokenizer_report import measure_vocabulary, render_markdown

SAMPLE = [
    *(("a", f"the cat | sat on `mat` {number}\n\n", False) for number in range(30)),
    *(("b", f"der Hund \u00e9 {number}", False) for number in range(20)),
    *(("a", f"another text {number}", True) for number in range(10)),
]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    rows = [{"source": source, "text": text, "is_heldout": flag} for source, text, flag in SAMPLE]
    with ShardWriter(tmp_path / "sample", SAMPLED) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=SAMPLED))
    return tmp_path / "sample"


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_equal_direct_counts(kind: str, sample: Path) -> None:
    tokenizer = train_tokenizer(kind, (text for _, text, flag in SAMPLE if not flag), 800)
    other = train_tokenizer("bpe", ["another text 1", "the cat"], 300)
    report = measure_vocabulary(sample, tokenizer, {"other": make_fast_encoder(other.text)})

    def ratio(reader: object, source: str | None) -> float:
        texts = [t for s, t, flag in SAMPLE if (s == "a") == flag and source in (s, None)]
        return sum(len(t.encode()) for t in texts) / sum(len(reader.encode(t)) for t in texts)  # type: ignore[attr-defined]

    assert [row["source"] for row in report["sources"]] == ["a", "b"]
    assert [row["is_heldout"] for row in report["sources"]] == [True, False]
    for row in report["sources"]:
        wanted = {"ours": ratio(tokenizer, row["source"]), "other": ratio(other, row["source"])}
        assert row["bytes_per_token"] == pytest.approx(wanted)
    assert report["bytes_per_token"] == pytest.approx({"ours": ratio(tokenizer, None), "other": ratio(other, None)})

    counts = Counter(index for _, text, flag in SAMPLE if not flag for index in tokenizer.encode(text))
    assert report["sample"]["tokens"] == counts.total()
    unused = report["unused_tokens"]
    assert unused["n"] + unused["n_single_bytes"] == tokenizer.vocab_size - len(SPECIAL_TOKENS) - len(counts)
    assert not {token["id"] for token in unused["tokens"]} & counts.keys()
    for token in report["longest_tokens"]:
        assert token["n_used"] == counts[token["id"]]
        assert len(tokenizer.decode_bytes([token["id"]])) == token["n_bytes"]
    lengths = [token["n_bytes"] for token in report["longest_tokens"]]
    every = [len(tokenizer.decode_bytes([index])) for index in range(len(SPECIAL_TOKENS), tokenizer.vocab_size)]
    assert lengths == sorted(every, reverse=True)[: len(lengths)]


def test_the_markdown_contains_every_part_and_is_reproducible(sample: Path) -> None:
    tokenizer = train_tokenizer("bpe", (text for _, text, flag in SAMPLE if not flag), 400)
    report = measure_vocabulary(sample, tokenizer)
    markdown = render_markdown(report)
    assert markdown == render_markdown(measure_vocabulary(sample, tokenizer))
    assert "| b * |" in markdown
    assert "8 spare" in markdown
    assert "'\\n\\n'" in markdown
