"""The tokenizer stage: a sample of the stated size, whole, and the same whatever the files look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.tokenizer import SPECIAL_TOKENS, Tokenizer
from pipeline.errors import UserError
from pipeline.params import TrainTokenizer
from pipeline.sample import sample_docs
from pipeline.tables import ShardWriter, read_docs
from pipeline.train_tokenizer import run

PARAMS = TrainTokenizer(vocab_size=500, pattern="cl100k", sample_bytes=20_000, seed=1)


def sample_texts(docs: Path, sample_bytes: int, seed: int) -> list[str]:
    return sample_docs(docs, ["text"], sample_bytes, seed).column("text").to_pylist()


def test_a_sample_is_whole_documents_up_to_its_size(make_docs: Callable[..., Path]) -> None:
    docs = make_docs(200)
    sample = sample_texts(docs, 20_000, 1)
    texts = set(read_docs(docs, ["text"]).column("text").to_pylist())
    assert set(sample) <= texts
    total = sum(len(text.encode()) for text in sample)
    assert total >= 20_000
    assert total - len(sample[-1].encode()) < 20_000
    assert sample_texts(docs, 20_000, 2) != sample
    assert len(sample_texts(docs, 10**9, 1)) == 200


def test_the_sample_does_not_depend_on_how_files_are_cut(make_docs: Callable[..., Path], tmp_path: Path) -> None:
    docs = make_docs(60)
    with ShardWriter(tmp_path / "one", shard_bytes=10**9) as writer:
        writer.write(read_docs(docs))
    assert sample_texts(docs, 9_000, 1) == sample_texts(tmp_path / "one", 9_000, 1)


def test_what_it_writes_is_a_tokenizer(make_docs: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    metrics = run(PARAMS, docs=make_docs(100), out=out)
    tokenizer = Tokenizer.load(out)
    assert metrics["vocab_size"] == tokenizer.vocab_size <= 500
    assert metrics["bytes_per_token"] > 1
    assert [tokenizer.special(name) for name in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))

    @settings(max_examples=200, deadline=None)
    @given(st.text())
    def round_trip(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    round_trip()


def test_no_text_is_a_clear_error(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "docs") as writer:
        writer.write(pa.Table.from_pylist([], schema=writer.schema))
    with pytest.raises(UserError, match="no text to train on"):
        run(PARAMS, docs=tmp_path / "docs", out=tmp_path)
