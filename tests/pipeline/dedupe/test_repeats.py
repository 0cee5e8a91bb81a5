"""Pieces that many documents share are kept in the best of them, and the ledger records what was removed."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.dedupe import stage as dedupe
from pipeline.dedupe.params import Dedupe, Repeats
from pipeline.frame.metrics import check_metrics
from pipeline.storage.tables import read_docs, read_table
from tests.pipeline.dedupe.corpora import write_shards

HEADER = "Licensed under the Apache License, Version 2.0 (the License)"
PARAMS = Dedupe(
    seed=1,
    ngram_words=5,
    n_bands=14,
    n_rows=8,
    min_jaccard=0.8,
    source_priority=["a", "b"],
    lines=Repeats(min_chars=20, max_docs=2),
)


def run(tmp_path: Path, texts: list[str], params: Dedupe = PARAMS, n_shards: int = 1) -> dict[str, Any]:
    write_shards(tmp_path / "docs", texts, ["a"], n_shards)
    out = tmp_path / "out"
    out.mkdir()
    metrics = dedupe.run(params, docs=tmp_path / "docs", scratch=tmp_path / "scratch", out=out)
    check_metrics("dedupe", metrics)
    rows = {row["id"]: row["text"] for row in read_docs(out, ["id", "text"]).to_pylist()}
    assert len(rows) == metrics["docs_out"]
    assert sum(len(text.encode()) for text in rows.values()) == metrics["text_bytes_out"]
    return {"texts": rows, "metrics": metrics, "ledger": read_table(out / "ledger.parquet").to_pylist(), "out": out}


def make_id(i: int) -> str:
    return f"document-{(7 * i) % 1_000:04d}"


def make_own_line(i: int) -> str:
    return f"what only document number {i} says, at some length {i * i}" * (1 + i % 2)


def test_a_line_in_too_many_documents_is_kept_in_the_best_one(tmp_path: Path) -> None:
    texts = [f"{HEADER}\n{make_own_line(i)}\nshort" for i in range(6)]
    texts[3] = (
        f"{make_own_line(3)}\n  {HEADER.upper()}  \nand {make_own_line(30)} that makes it the longest of all documents"
    )
    found = run(tmp_path, texts)
    for i in range(6):
        expected = texts[3] if i == 3 else f"{make_own_line(i)}\nshort"
        assert found["texts"][make_id(i)] == expected
    assert found["metrics"]["docs_changed"] == found["metrics"]["lines_removed"] == 5
    assert found["metrics"]["lines_chars_removed"] == 5 * (len(HEADER) + 1)
    by_reason = Counter((row["decision"], row["reason"], row["threshold"]) for row in found["ledger"])
    assert by_reason == {("changed", "lines_removed", 2.0): 5, ("changed", "lines_chars_removed", 2.0): 5}
    assert {row["value"] for row in found["ledger"] if row["reason"] == "lines_chars_removed"} == {len(HEADER) + 1.0}


def test_a_line_in_as_many_documents_as_allowed_is_kept(tmp_path: Path) -> None:
    texts = [f"{HEADER}\n{make_own_line(i)}" for i in range(2)] + [make_own_line(i) for i in range(2, 5)]
    found = run(tmp_path, texts)
    assert list(found["texts"].values()) == texts
    assert found["metrics"]["docs_changed"] == 0


def test_a_line_that_one_document_repeats_is_not_boilerplate(tmp_path: Path) -> None:
    text = f"{HEADER}\n" * 10 + make_own_line(1)
    assert list(run(tmp_path, [text, make_own_line(2)])["texts"].values()) == [text, make_own_line(2)]


def test_a_document_with_too_little_left_is_dropped(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"min_chars_left": 10})
    texts = [f"{HEADER}\n{make_own_line(i)}" for i in range(4)] + [f"{HEADER}\nfew"]
    found = run(tmp_path, texts, params)
    assert make_id(4) not in found["texts"]
    assert found["metrics"]["dropped_few_chars_left"] == 1
    [row] = [row for row in found["ledger"] if row["id"] == make_id(4)]
    assert (row["decision"], row["reason"], row["value"], row["threshold"]) == ("dropped", "few_chars_left", 3.0, 10.0)
    assert found["metrics"]["docs_changed"] == 3


def test_copies_do_not_make_a_line_frequent(tmp_path: Path) -> None:
    """Only surviving documents are counted."""
    texts = [f"{HEADER}\n{make_own_line(1)}"] * 5 + [make_own_line(2)]
    found = run(tmp_path, texts)
    assert found["metrics"]["dropped_exact_duplicate"] == 4
    assert found["metrics"]["docs_changed"] == 0


def test_paragraphs_are_removed_before_lines(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"paragraphs": Repeats(min_chars=20, max_docs=2)})
    paragraph = "a paragraph of two lines\nwhich many pages have"
    texts = [f"{make_own_line(i)}\n\n{paragraph}\n\n{HEADER}\nthe end {i}" for i in range(4)]
    found = run(tmp_path, texts, params)
    best = max(range(4), key=lambda i: (len(texts[i]), -((7 * i) % 1_000)))
    for i in range(4):
        expected = texts[i] if i == best else f"{make_own_line(i)}\n\nthe end {i}"
        assert found["texts"][make_id(i)] == expected
    assert found["metrics"]["paragraphs_removed"] == found["metrics"]["lines_removed"] == 3


def remove_by_brute_force(texts: dict[str, str], max_docs: int, min_chars: int) -> dict[str, str]:
    order = sorted(texts, key=lambda name: (-len(texts[name].encode()), name))
    owner: dict[str, str] = {}
    n_docs: Counter[str] = Counter()
    for name in order:
        for line in set(texts[name].split("\n")):
            owner.setdefault(line, name)
            n_docs[line] += 1
    return {
        name: "\n".join(
            line
            for line in text.split("\n")
            if len(line) < min_chars or n_docs[line] <= max_docs or owner[line] == name
        )
        for name, text in texts.items()
    }


@pytest.mark.parametrize("memory_mb", [1, 1_000])
def test_many_documents_against_brute_force(memory_mb: int, tmp_path: Path) -> None:
    rng = random.Random(1)
    shared = [f"shared line number {i} of all the pages" for i in range(30)]
    texts = [
        "\n".join([make_own_line(i), *(rng.choice(shared) for _ in range(rng.randint(0, 6))), f"the end of page {i}"])
        for i in range(200)
    ]
    params = PARAMS.model_copy(update={"memory_mb": memory_mb, "min_jaccard": 1.0})
    found = run(tmp_path, texts, params, n_shards=4)
    before = {make_id(i): text for i, text in enumerate(texts)}
    assert found["metrics"]["docs_out"] == 200
    assert found["texts"] == remove_by_brute_force(before, max_docs=2, min_chars=20)
    assert found["metrics"]["docs_changed"] > 100


def test_any_memory_writes_the_same_bytes(tmp_path: Path) -> None:
    texts = [f"{HEADER}\n{make_own_line(i)}\n\n{HEADER}\n{make_own_line(i // 2)}" for i in range(60)]
    digests = []
    for memory_mb in (1, 1_000):
        params = PARAMS.model_copy(update={"memory_mb": memory_mb, "paragraphs": Repeats(min_chars=1, max_docs=1)})
        out = run(tmp_path / str(memory_mb), texts, params, n_shards=memory_mb % 3 + 1)["out"]
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()})
    assert digests[0] == digests[1]
