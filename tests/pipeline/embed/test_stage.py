"""The stage embed on a small index: what it writes can be searched, and depends on nothing but its inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.retrieval.cutting.source_texts import SourceText, cut_documents
from model.retrieval.searcher import Searcher
from model.retrieval.segment import write_segment
from pipeline.embed.params import Embed
from pipeline.embed.stage import run
from pipeline.frame.errors import UserError
from pipeline.frame.settings import load_section
from tests.conftest import ROOT

VERBS = ["sort", "shuffle", "rotate", "invert", "compress", "encode", "draw", "merge", "split", "count"]
NOUNS = ["matrix", "table", "picture", "signal", "graph", "sentence", "archive", "queue"]


def write_index(folder: Path, n: int = 80) -> Path:
    """Write an index of `n` symbols, each of which does one thing to another."""
    names = [(verb, noun) for verb in VERBS for noun in NOUNS][:n]
    docs = [
        SourceText(
            f"{i:032x}",
            f"lib.{verb}_{noun}(value)\n\nMake the {noun} {verb} itself at once. Every {noun} that is given will {verb} its "
            f"parts in place.\n\nThe {verb} of a {noun} takes long, and the {noun} stays a {noun} number {i}.",
            "python_docs/lib",
            f"lib.{verb}_{noun}",
            "",
            "MIT",
            "function",
            "(value)",
        )
        for i, (verb, noun) in enumerate(names)
    ]
    folder.mkdir()
    write_segment(folder, [section for doc in cut_documents(docs, 1000) for section in doc])
    return folder


def write_questions(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        {"question": f"how to {verb} a {noun}?", "titles": [f"lib.{verb}_{noun}"], "split": split}
        for verb, split in (("sort", "train"), ("merge", "train"), ("count", "heldout"))
        for noun in NOUNS
    ]
    rows.append({"question": "gone?", "titles": ["lib.gone"], "split": "heldout"})
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


PARAMS = load_section(Embed, "embed", ROOT / "docs" / "recipes" / "smoke.yaml")


def run_stage(tmp_path: Path, name: str, n: int = 80) -> dict[str, float | int]:
    for each, write in (("index", lambda path: write_index(path, n)), ("questions", write_questions)):
        if not (tmp_path / each).exists():
            write(tmp_path / each)
    (tmp_path / name).mkdir()
    return run(PARAMS, index=tmp_path / "index", questions=tmp_path / "questions", out=tmp_path / name)


def test_what_it_writes_is_searched_and_the_same_for_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", "1")
    metrics = run_stage(tmp_path, "one")
    monkeypatch.setenv("MINIGPT_WORKERS", "3")
    assert run_stage(tmp_path, "three") == metrics
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["embed.json", "embedder.arrow", "reranker.arrow", "retrieval.json", "units.arrow", "vectors.arrow"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
    assert (metrics["titles_missing"], metrics["questions_without_answer"]) == (1, 1)
    assert "lib.gone" in caplog.text
    assert metrics["questions_heldout"] == len(NOUNS)
    assert metrics["questions_reranked_r10_pct"] == 100
    searcher = Searcher.open(tmp_path / "index", tmp_path / "one")
    found = searcher.search("rotate my picture", question="How do I rotate my picture?")
    assert found.results[0].section.title == "lib.rotate_picture"
    assert {"bm25", "vectors", "reranker"} <= {step.name for step in found.trace}


def test_an_index_that_it_was_not_made_for_is_refused(tmp_path: Path) -> None:
    run_stage(tmp_path, "out")
    write_index(tmp_path / "other", 40)
    with pytest.raises(ValueError, match="another index"):
        Searcher.open(tmp_path / "other", tmp_path / "out")


def test_few_documents_are_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = run_stage(tmp_path, "out", 1)
    assert "too few documents" in caplog.text
    assert metrics["units"] == 1


def test_a_folder_that_is_no_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    with pytest.raises(UserError, match=r"embed: .*segment\.json"):
        run_stage(tmp_path, "out")
