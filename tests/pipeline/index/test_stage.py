"""The stage index: passages are found by title and words, sizes are bounded, the same bytes every time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pipeline.conversations.stage import read_passages
from pipeline.frame.errors import ParamError, UserError
from pipeline.index.database import write_database
from pipeline.index.params import Index
from pipeline.index.passages import cut_passages
from pipeline.index.stage import read_sample, run
from pipeline.params import check_params
from pipeline.text.passage import Passage
from tests.conftest import ROOT, read_yaml
from tests.pipeline.conftest import write_docs
from tests.pipeline.symbols import Corpus, write_package_corpus

PARAMS = Index(seed=1, passage_chars=200, max_bytes=1_000_000, max_sample_bytes=10_000_000)


def make(corpus: Corpus, out: Path, params: Index = PARAMS) -> dict[str, float | int]:
    out.mkdir()
    return run(params, docs=corpus.docs, out=out)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_package_corpus(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def made(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float | int]]:
    out = tmp_path_factory.mktemp("made") / "out"
    return out, make(corpus, out)


def test_the_same_bytes_twice(corpus: Corpus, made: tuple[Path, dict[str, float | int]], tmp_path: Path) -> None:
    assert make(corpus, tmp_path / "again") == made[1]
    for name in ("passages.sqlite", "passages.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (made[0] / name).read_bytes(), name


def test_conversations_read_every_passage_unchanged(corpus: Corpus, made: tuple[Path, dict[str, float | int]]) -> None:
    cut = list(cut_passages(read_sample(corpus.docs, 10_000_000, 1), 200))
    assert read_passages(made[0] / "passages.parquet") == cut
    assert all(type(passage.is_symbol) is bool for passage in cut)


def test_passages_are_found_by_title_last_name_and_words(
    made: tuple[Path, dict[str, float | int]],
) -> None:
    with sqlite3.connect(made[0] / "passages.sqlite") as connection:
        title, passage = connection.execute("SELECT title, passage FROM passages ORDER BY rowid LIMIT 1").fetchone()
        assert connection.execute("SELECT count(*) FROM passages").fetchone()[0] == made[1]["passages"] == 160

        def match(words: str) -> set[str]:
            sql = (
                "SELECT passages.title FROM passages_fts JOIN passages ON passages.rowid = passages_fts.rowid "
                "WHERE passages_fts MATCH ? ORDER BY bm25(passages_fts)"
            )
            return {row[0] for row in connection.execute(sql, (words,))}

        tail = title.rpartition(".")[2]
        assert title in match(" ".join(tail.split("_")))
        assert match(f'"{title}"') == match(f'"{tail}"') == {title}  # as phrases
        assert match('"sorted"') == match('"sorting"')  # stems
        assert f" — {tail}" in passage
    connection.close()


def test_metrics_count_the_passages_inside_and_outside_the_database(tmp_path: Path) -> None:
    docs = write_docs(tmp_path / "docs", [f"Text number {n} has words. " + "word " * 4_000 for n in range(80)])
    (tmp_path / "out").mkdir()
    metrics = run(PARAMS.model_copy(update={"passage_chars": 4_000}), docs=docs, out=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out/passages.sqlite") as connection:
        n, n_bytes = connection.execute(
            "SELECT count(*), sum(length(passage) + length(title)) FROM passages"
        ).fetchone()
    connection.close()
    kept = read_passages(tmp_path / "out/passages.parquet")
    assert (metrics["passages"], metrics["passages"] + metrics["passages_left_out"]) == (n, len(kept))
    assert metrics["sqlite_bytes"] == (tmp_path / "out/passages.sqlite").stat().st_size
    assert metrics["text_bytes"] == sum(len(passage.text.encode()) for passage in kept)
    assert metrics["symbols"] == 0
    assert n_bytes <= PARAMS.max_bytes


def test_the_database_stays_below_its_size_limit(tmp_path: Path) -> None:
    passages = [Passage(str(n), f"title {n}", "word " * 20, "word", "s", "MIT", False) for n in range(100)]
    assert write_database(tmp_path / "some.sqlite", passages, 1_100) == 10


def test_a_corpus_without_passages_is_refused(tmp_path: Path) -> None:
    docs = write_docs(tmp_path / "docs", ["", " "])
    with pytest.raises(UserError, match="no passages to search"):
        run(PARAMS, docs=docs, out=tmp_path)


@pytest.mark.parametrize("name", ["passage_chars", "max_index_bytes", "max_sample_bytes"])
def test_a_setting_that_was_moved_is_refused_with_its_new_name(name: str) -> None:
    values = read_yaml(ROOT / "params.yaml")
    values["conversations"][name] = 1_000_000
    with pytest.raises(ParamError, match=rf"conversations\.{name}: renamed: use index\.{name.replace('index_', '')}"):
        check_params(values)
