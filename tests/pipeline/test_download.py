"""The corpus as a stage: sorted, unique, counted, the same bytes again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import download
from pipeline.errors import UserError
from pipeline.params import Download
from pipeline.sources import Document
from pipeline.tables import read_docs, read_table


def settings(*sources: dict[str, object]) -> Download:
    return Download.model_validate({"sources": [{"kind": "text", "name": "mine", **source} for source in sources]})


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"Text number {number}.")
    (folder / "bad.txt").write_bytes(b"\xff")
    (folder / "same.jsonl").write_text('{"text": "one"}\n{"text": "one"}\n')
    return folder


def test_documents_are_sorted_and_the_books_balance(corpus: Path, tmp_path: Path) -> None:
    metrics = download.run(settings({"path": str(corpus)}, {"path": f"{corpus}/1*.txt"}), out=tmp_path / "out")
    table = read_docs(tmp_path / "out")
    ids = table.column("id").to_pylist()
    assert ids == sorted(set(ids))
    assert metrics == {
        "docs_in": 33,
        "docs_out": 22,  # 11 files are named by both sources; equal texts from different rows are two documents
        "dropped_duplicate_id": 11,
        "dropped_takedown": 0,
        "text_bytes": sum(len(text.encode()) for text in table.column("text").to_pylist()),
        "n_sources": 1,
        "docs_text_mine": 22,
        "rejects_not_utf8": 1,
    }
    [reject] = read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert (reject["source"], reject["locator"], reject["reason"]) == ("text/mine", '{"path":"bad.txt"}', "not_utf8")
    ledger = read_table(tmp_path / "out" / "ledger.parquet").to_pylist()
    assert {(row["decision"], row["reason"]) for row in ledger} == {("dropped", "duplicate_id")}
    assert len(ledger) == 11


def test_the_same_bytes_again_wherever_the_files_lie(corpus: Path, tmp_path: Path) -> None:
    download.run(settings({"path": str(corpus)}), out=tmp_path / "a")
    moved = corpus.rename(tmp_path / "moved")
    download.run(settings({"path": str(moved)}), out=tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_an_id_names_text_and_place() -> None:
    document = Document("text/a", '{"path":"x"}', "words", "x", "", "unknown")
    other = [document._replace(source="text/b"), document._replace(locator="{}"), document._replace(text="word")]
    assert len({download.document_id(each) for each in [document, *other]}) == 4
    assert download.document_id(document._replace(title="y", licence="MIT")) == download.document_id(document)


def test_an_empty_corpus_is_an_error_that_names_a_reject(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"download\.sources: the corpus is empty[^$]+not_utf8"):
        download.run(settings({"path": str(tmp_path)}), out=tmp_path / "out")


def test_a_missing_source_is_found_before_any_is_read(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"download\.sources\.1\.path"):
        download.run(settings({"path": str(corpus)}, {"path": str(tmp_path / "nowhere")}), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_locators_are_canonical(corpus: Path, tmp_path: Path) -> None:
    download.run(settings({"path": str(corpus)}), out=tmp_path / "out")
    for locator in read_docs(tmp_path / "out").column("locator").to_pylist():
        assert json.dumps(json.loads(locator), sort_keys=True, ensure_ascii=False, separators=(",", ":")) == locator
