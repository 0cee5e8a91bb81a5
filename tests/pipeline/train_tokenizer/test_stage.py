"""The stage train_tokenizer: a sample of whole documents of the given size, independent of how they are split into files."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from pipeline.frame.errors import UserError
from pipeline.storage.sample import sample_docs
from pipeline.storage.tables import DOCS, ShardWriter, read_docs
from pipeline.train_tokenizer.params import TrainTokenizer
from pipeline.train_tokenizer.stage import run
from tests.conftest import ROOT
from tests.pipeline.conftest import write_docs

PARAMS = TrainTokenizer(vocab_size=500, pattern="cl100k", sample_bytes=20_000, seed=1)


MEASURED = """
import resource, sys
from pathlib import Path
from pipeline.train_tokenizer.params import TrainTokenizer
from pipeline.train_tokenizer.stage import run
folder = Path(sys.argv[1])
params = TrainTokenizer(kind="bpe", vocab_size=500, pattern="cl100k", sample_bytes=10**9, seed=1)
run(params, docs=folder / "docs", out=folder / "out")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def sample_texts(docs: Path, sample_bytes: int, seed: int) -> list[str]:
    return sample_docs(docs, ["text"], sample_bytes, seed).column("text").to_pylist()


def test_a_sample_consists_of_whole_documents_up_to_its_size(make_docs: Callable[..., Path]) -> None:
    docs = make_docs(200)
    sample = sample_texts(docs, 20_000, 1)
    texts = set(read_docs(docs, ["text"]).column("text").to_pylist())
    assert set(sample) <= texts
    total = sum(len(text.encode()) for text in sample)
    assert total >= 20_000
    assert total - len(sample[-1].encode()) < 20_000
    assert sample_texts(docs, 20_000, 2) != sample
    assert len(sample_texts(docs, 10**9, 1)) == 200


def test_the_sample_does_not_depend_on_the_files(make_docs: Callable[..., Path], tmp_path: Path) -> None:
    docs = make_docs(60)
    with ShardWriter(tmp_path / "one", shard_bytes=10**9) as writer:
        writer.write(read_docs(docs))
    assert sample_texts(docs, 9_000, 1) == sample_texts(tmp_path / "one", 9_000, 1)


def test_the_output_is_a_tokenizer_that_round_trips_any_text(make_docs: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    metrics = run(PARAMS, docs=make_docs(100), out=out)
    tokenizer = Tokenizer.load(out)
    assert metrics["vocab_size"] == tokenizer.vocab_size <= 500
    assert metrics["bytes_per_token"] > 1
    assert [tokenizer.get_special_id(name) for name in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))

    @settings(max_examples=200, deadline=None)
    @given(st.text())
    def round_trip(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    round_trip()


def test_shares_are_met_and_counted(tmp_path: Path) -> None:
    parts = [
        read_docs(write_docs(tmp_path / name, [f"{name} {n} " + "word " * 30 for n in range(400)], name))
        for name in ("a/x", "b")
    ]
    with ShardWriter(tmp_path / "docs") as writer:
        writer.write(pa.concat_tables(parts))
    shared = PARAMS.model_copy(update={"shares": {"a/": 3.0, "b": 1.0}})
    (tmp_path / "out").mkdir()
    metrics = run(shared, docs=tmp_path / "docs", out=tmp_path / "out")
    assert 15_000 <= metrics["sample_bytes_a/x"] < 15_200
    assert 5_000 <= metrics["sample_bytes_b"] < 5_200
    assert metrics["sample_bytes"] == metrics["sample_bytes_a/x"] + metrics["sample_bytes_b"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.json",
        "report.md",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    unknown = PARAMS.model_copy(update={"shares": {"a/": 3.0, "c": 1.0}})
    (tmp_path / "again").mkdir()
    with pytest.raises(UserError, match="no text of c"):
        run(unknown, docs=tmp_path / "docs", out=tmp_path / "again")


@pytest.mark.slow
def test_memory_does_not_grow_with_corpus_and_sample(tmp_path: Path) -> None:
    words = [f"{number:x}" for number in range(20_000)]
    rng = random.Random(1)
    texts = [" ".join(rng.choices(words, k=500)) for _ in range(400)]

    def peak_mb(n_copies: int) -> float:
        folder = tmp_path / str(n_copies)
        with ShardWriter(folder / "docs") as writer:
            for copy in range(n_copies):
                rows = [
                    {**dict.fromkeys(DOCS.names[:-1], ""), "id": f"{copy:04x}{number:04x}", "text": text, "source": "s"}
                    for number, text in enumerate(texts)
                ]
                writer.write(pa.Table.from_pylist(rows, schema=DOCS))
        (folder / "out").mkdir()
        command = [sys.executable, "-c", MEASURED, str(folder)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(process.stdout.split()[-1])

    small, large = peak_mb(3), peak_mb(18)  # 3 and 17 MB of text, all of it sampled
    assert large < small + 40  # 300 MB more if all texts were read at once


def test_documents_without_text_are_refused(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "docs") as writer:
        writer.write(pa.Table.from_pylist([], schema=writer.schema))
    with pytest.raises(UserError, match="no text to train on"):
        run(PARAMS, docs=tmp_path / "docs", out=tmp_path)
