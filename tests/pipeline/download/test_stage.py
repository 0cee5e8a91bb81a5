"""Test the stage: the corpus is sorted, unique, counted and reproducible byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.download import spool as spooled
from pipeline.download import stage as download
from pipeline.download.params import Download
from pipeline.download.readers import text
from pipeline.download.readers.document import Document
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.storage import sort
from pipeline.storage.tables import read_docs, read_table
from tests.conftest import ROOT


def make_params(*sources: dict[str, object]) -> Download:
    return Download.model_validate({"sources": [{"kind": "text", "name": "mine", **source} for source in sources]})


def collect(params: Download, out: Path, scratch: Path | None = None) -> Metrics:
    return download.run(params, out=out, scratch=scratch or out.with_name(f"{out.name}.scratch"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"Text number {number}.")
    (folder / "bad.txt").write_bytes(b"\xff")
    (folder / "same.jsonl").write_text('{"text": "one"}\n{"text": "one"}\n')
    return folder


def test_documents_are_sorted_and_counts_reconcile(corpus: Path, tmp_path: Path) -> None:
    metrics = collect(make_params({"path": str(corpus)}, {"path": f"{corpus}/1*.txt"}), tmp_path / "out")
    table = read_docs(tmp_path / "out")
    ids = table.column("id").to_pylist()
    assert ids == sorted(set(ids))
    assert metrics == {
        "docs_in": 33,
        "docs_out": 22,  # 11 files are named by both sources; equal texts from different rows are two documents
        "dropped_duplicate_id": 11,
        "dropped_takedown": 0,
        "search_only_docs": 0,
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


def test_the_output_bytes_do_not_depend_on_the_folder_of_the_input(corpus: Path, tmp_path: Path) -> None:
    collect(make_params({"path": str(corpus)}), tmp_path / "a")
    moved = corpus.rename(tmp_path / "moved")
    collect(make_params({"path": str(moved)}), tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_an_id_identifies_text_and_location() -> None:
    document = Document("text/a", '{"path":"x"}', "words", "x", "", "unknown")
    others = [document._replace(source="text/b"), document._replace(locator="{}"), document._replace(text="word")]
    assert len({download.compute_document_id(each) for each in [document, *others]}) == 4
    assert download.compute_document_id(document._replace(title="y", license="MIT")) == download.compute_document_id(
        document
    )


def test_an_empty_corpus_is_an_error_that_names_a_reject(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"download\.sources: the corpus is empty[^$]+not_utf8"):
        collect(make_params({"path": str(tmp_path)}), tmp_path / "out")


def test_an_empty_corpus_shows_all_reasons_and_keeps_the_rejects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, scratch = tmp_path / "in", tmp_path / "scratch"
    root.mkdir()
    (root / "a.txt").write_bytes(b"\xff")
    (root / "b.txt").write_bytes(b"\xff")
    (root / "c.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError) as caught:
        collect(make_params({"path": str(root)}), tmp_path / "out", scratch)
    assert "2 not_utf8 (" in caught.value.found
    assert "1 unreadable (" in caught.value.found
    assert "not gzip data" in caught.value.found
    assert str(scratch / "rejects.parquet") in str(caught.value)
    assert len(read_table(scratch / "rejects.parquet")) == 3
    assert "has no document, only rejects" in capsys.readouterr().out


def test_a_missing_source_is_reported_before_any_is_read(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"download\.sources\.1\.path"):
        collect(make_params({"path": str(corpus)}, {"path": str(tmp_path / "nowhere")}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_locators_are_canonical(corpus: Path, tmp_path: Path) -> None:
    collect(make_params({"path": str(corpus)}), tmp_path / "out")
    for locator in read_docs(tmp_path / "out").column("locator").to_pylist():
        assert json.dumps(json.loads(locator), sort_keys=True, ensure_ascii=False, separators=(",", ":")) == locator


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None)
@given(run_bytes=st.integers(100, 9_000), part_bytes=st.integers(1, 500))
def test_the_output_bytes_do_not_depend_on_run_and_part_sizes(
    corpus: Path, tmp_path_factory: pytest.TempPathFactory, run_bytes: int, part_bytes: int
) -> None:
    for number in range(5):
        (corpus / f"worse{number}.txt").write_bytes(b"\xff")
    params = make_params({"path": str(corpus)}, {"path": f"{corpus}/*1.txt"})
    place = tmp_path_factory.mktemp("runs")
    whole = collect(params, place / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sort, "RUN_BYTES", run_bytes)
        patch.setattr(text, "PART_BYTES", part_bytes)
        patch.setenv("MINIGPT_ENGINE", "serial")
        assert collect(params, place / "many") == whole
    many, one = read_files(place / "many"), read_files(place / "whole")
    assert many.pop("sources.json")  # lists the parts
    one.pop("sources.json")
    assert many == one


@pytest.mark.slow
def test_the_output_bytes_do_not_depend_on_the_number_of_workers(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "PART_FILES", 5)
    monkeypatch.setattr(spooled, "HERE_BYTES", 0)
    outputs: list[dict[str, bytes]] = []
    for workers in ("1", "2"):
        monkeypatch.setenv("MINIGPT_WORKERS", workers)
        collect(make_params({"path": str(corpus)}), tmp_path / workers)
        outputs.append(read_files(tmp_path / workers))
    assert outputs[0] == outputs[1]


STOPPED = """
import os, signal, sys
from pathlib import Path
from pipeline.download import stage as download
from pipeline.params import Download
from pipeline.download.readers import text
text.PART_BYTES = 1
read_file, n_left = text._read_file, [9]
def read_nine(*args):
    n_left[0] -= 1
    if n_left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_file(*args)
text._read_file = read_nine
download.run(Download.model_validate_json(sys.argv[1]), out=Path(sys.argv[2]), scratch=Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_killed_run_resumes_without_reading_finished_parts_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, scratch = make_params({"path": str(corpus)}), tmp_path / "scratch"
    argv = [sys.executable, "-c", STOPPED, params.model_dump_json(), str(tmp_path / "stopped"), str(scratch)]
    environment = {**os.environ, "MINIGPT_ENGINE": "serial", "PYTHONPATH": str(ROOT)}
    assert subprocess.run(argv, env=environment, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    finished = {path.name: path.stat().st_ino for path in scratch.glob("part-*")}
    assert len(finished) == 9
    assert list(scratch.glob("reading-*"))
    (corpus / "0.txt").rename(corpus / "zero.txt")  # moves every other file up in the list
    monkeypatch.setattr(text, "PART_BYTES", 1)
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")
    read: list[str] = []
    read_file = text._read_file  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(text, "_read_file", lambda *args: (read.append(args[2].name), read_file(*args))[1])
    collect(params, tmp_path / "resumed", scratch)
    assert len(read) == 22 - 8  # all but the finished ones; the renamed file is read again
    assert "zero.txt" in read
    assert {name: (scratch / name).stat().st_ino for name in finished} == finished
    assert not list(scratch.glob("reading-*"))
    collect(params, tmp_path / "whole")
    assert read_files(tmp_path / "resumed") == read_files(tmp_path / "whole")


def test_the_provenance_of_every_source_is_recorded(corpus: Path, tmp_path: Path) -> None:
    params = Download.model_validate(
        {
            "sources": [
                {"kind": "text", "name": "mine", "path": str(corpus / "same.jsonl")},
                {"kind": "python_docs", "packages": ["datasketch"]},
            ]
        }
    )
    collect(params, tmp_path / "a")
    [mine, docs] = json.loads((tmp_path / "a" / "sources.json").read_text())["sources"]
    [file] = mine["read"]
    assert (mine["kind"], file["path"], file["bytes"], len(file["content"])) == ("text", "same.jsonl", 32, 32)
    assert [each["package"] for each in docs["read"]] == ["datasketch"]
    (corpus / "same.jsonl").write_text('{"text": "two"}\n{"text": "two"}\n')
    collect(params, tmp_path / "b")
    changed = json.loads((tmp_path / "b" / "sources.json").read_text())["sources"][0]["read"][0]
    assert changed["content"] != file["content"]


def test_a_wrong_column_is_reported_even_if_the_parts_are_reused(corpus: Path, tmp_path: Path) -> None:
    params = make_params({"path": str(corpus / "same.jsonl"), "text_column": "body"})
    for _ in range(2):
        with pytest.raises(UserError, match=r"download\.sources\.0\.text_column: no row has this column"):
            collect(params, tmp_path / "out")
