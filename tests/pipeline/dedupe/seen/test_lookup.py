"""A nightly run drops duplicates of earlier runs' documents and names these; nothing is dropped when a corpus is run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.dedupe import stage as dedupe
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.seen.__main__ import add_run, remove_docs
from pipeline.params import load_params
from pipeline.storage.tables import DOCS, ShardWriter, read_docs, read_table
from tests.conftest import ROOT

WORDS = [f"word{number}" for number in range(400)]


def text(number: int, n_words: int = 80) -> str:
    return " ".join(WORDS[(number * 37 + step * (number + 3)) % 400] for step in range(n_words))


def corpus(folder: Path, rows: dict[str, str]) -> Path:
    blank = {"source": "web", "locator": "{}", "title": "", "url": "", "license": "MIT"}
    with ShardWriter(folder, DOCS) as writer:
        table = [{**blank, "id": name, "text": content} for name, content in sorted(rows.items())]
        writer.write(pa.Table.from_pylist(table, DOCS))
    return folder


def run(folder: Path, docs: Path, **changes: Any) -> Path:
    params = load_params(ROOT / "params.yaml").dedupe
    asked = Dedupe.model_validate({**params.model_dump(exclude_none=True), **changes})
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir()
    metrics = dedupe.run(asked, docs=docs, scratch=scratch, out=out)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return out


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return an index of the documents that the first night kept: texts 0 to 9."""
    first = corpus(tmp_path / "first", {f"a{number}": text(number) for number in range(10)})
    kept = run(tmp_path / "night1", first)
    add_run(str(tmp_path / "seen"), "night1", kept, load_params(ROOT / "params.yaml").dedupe)
    return str(tmp_path / "seen")


def test_the_second_night_keeps_new_documents_and_names_earlier_ones(place: str, tmp_path: Path) -> None:
    rows = {"b0": text(0), "b1": text(1) + " and more", "b2": text(50), "b3": text(51), "b4": text(51) + " again"}
    out = run(tmp_path / "night2", corpus(tmp_path / "second", rows), index={"place": place, "runs": ["night1"]})
    ledger = {row["id"]: row for row in read_table(out / "ledger.parquet").to_pylist()}
    assert {name: (row["reason"], row["other_id"]) for name, row in ledger.items()} == {
        "b0": ("seen_before_exact", "a0"),
        "b1": ("seen_before", "a1"),
        "b3": ("near_duplicate", "b4"),
    }
    assert 0.8 <= ledger["b1"]["value"] < 1.0
    assert read_docs(out).column("id").to_pylist() == ["b2", "b4"]
    metrics = json.loads((tmp_path / "night2" / "metrics.json").read_text())
    assert (metrics["dropped_seen_before"], metrics["dropped_seen_before_exact"]) == (1, 1)
    assert json.loads((out / "index.json").read_text())["runs"][0]["name"] == "night1"


def test_nothing_is_dropped_when_a_corpus_is_run_again(place: str, tmp_path: Path) -> None:
    out = run(tmp_path / "again", tmp_path / "first", index={"place": place, "runs": "all"})
    assert read_docs(out).num_rows == 10


def test_removed_documents_do_not_count(place: str, tmp_path: Path) -> None:
    remove_docs(place, ["a0"])
    docs = corpus(tmp_path / "second", {"b0": text(0), "b1": text(1)})
    out = run(tmp_path / "night2", docs, index={"place": place, "runs": "all"})
    assert read_docs(out).column("id").to_pylist() == ["b0"]
