"""Planted duplicates are found, the right document survives, and the counts reconcile."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.dedupe import sketches
from pipeline.dedupe import stage as dedupe
from pipeline.dedupe.params import Dedupe
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import check_metrics
from pipeline.storage.tables import DOCS, ShardWriter, read_docs, read_table
from tests.conftest import ROOT

PARAMS = Dedupe(
    seed=1, ngram_words=5, n_bands=14, n_rows=8, min_jaccard=0.8, source_priority=["docs/first", "docs/second"]
)
Row = dict[str, Any]


def doc(doc_id: str, text: str, source: str = "docs/second") -> Row:
    return {"id": doc_id, "text": text, "source": source, "locator": "{}", "title": doc_id, "url": "", "license": "MIT"}


def words(seed: int, n: int = 120) -> list[str]:
    generator = random.Random(seed)
    return [f"w{generator.randrange(5_000)}" for _ in range(n)]


def run(tmp_path: Path, rows: Iterable[Row], shard_bytes: int = 1_000_000, params: Dedupe = PARAMS) -> dict[str, Any]:
    out = tmp_path / "out"
    out.mkdir(parents=True)
    with ShardWriter(tmp_path / "docs", DOCS, shard_bytes) as writer:
        for row in rows:  # one by one, because a shard ends with a batch
            writer.write(pa.Table.from_pylist([row], schema=DOCS))
    metrics = dedupe.run(params, docs=tmp_path / "docs", scratch=tmp_path / "scratch", out=out)
    check_metrics("dedupe", metrics)
    ledger = read_table(out / "ledger.parquet").to_pylist()
    kept = read_docs(out)
    assert metrics["docs_out"] == kept.num_rows
    dropped = [row for row in ledger if row["decision"] == "dropped"]
    assert len(dropped) == metrics["docs_in"] - metrics["docs_out"]
    assert metrics["search_only_docs"] == sum(kept.column("is_search_only").to_pylist())
    return {
        "kept": kept.column("id").to_pylist(),
        "search_only": kept.filter(kept.column("is_search_only")).column("id").to_pylist(),
        "ledger": {row["id"]: row for row in ledger},
        "metrics": metrics,
        "out": out,
    }


def corpus(n: int = 60) -> list[Row]:
    """Return dissimilar documents, every third one with a near duplicate, every fifth one with an exact one."""
    rows = []
    for i in range(n):
        base = words(i)
        rows.append(doc(f"{i:03d}a", " ".join(base)))
        if i % 3 == 0:
            rows.append(doc(f"{i:03d}b", " ".join([*base[:-4], "new", "end"])))
        if i % 5 == 0:
            rows.append(doc(f"{i:03d}c", " ".join(base).upper() + "\n"))
    return rows


def test_exactly_the_planted_duplicates_are_found(tmp_path: Path) -> None:
    found = run(tmp_path, corpus())
    assert found["metrics"]["dropped_near_duplicate"] == 20
    assert found["metrics"]["dropped_exact_duplicate"] == 12
    assert found["metrics"]["clusters"] == 20
    assert found["kept"] == [f"{i:03d}{'c' if i % 5 == 0 else 'a'}" for i in range(60)], (
        "the longer text survives, in order"
    )
    for doc_id, row in found["ledger"].items():
        assert row["other_id"][:3] == doc_id[:3]
        assert row["other_id"] in found["kept"]
        assert row["value"] >= row["threshold"]
        assert (row["threshold"] == 1.0) == (row["reason"] == "exact_duplicate")


@pytest.mark.parametrize(
    ("left", "right", "survivor"),
    [
        (doc("a", "same text here"), doc("b", "Same  Text here"), "b"),  # longer
        (doc("a", "same text here"), doc("b", "Same Text here"), "a"),  # smaller id
        (doc("a", "same   text here"), doc("b", "same text here", "docs/first/x"), "b"),  # source
        (doc("a", "same text here", "docs/other"), doc("b", "same text here"), "b"),
    ],
)
def test_the_survivor_is_chosen_by_source_length_and_id(tmp_path: Path, left: Row, right: Row, survivor: str) -> None:
    assert run(tmp_path, [left, right])["kept"] == [survivor]


def test_an_exact_copy_of_a_near_duplicate_is_dropped_for_the_same_survivor(tmp_path: Path) -> None:
    base = words(1)
    rows = [
        doc("a", " ".join(base)),
        doc("b", " ".join(base)),
        doc("c", " ".join(base[:-1]) + " something-longer-at-the-end"),
    ]
    found = run(tmp_path, rows)
    assert found["kept"] == ["c"]
    assert {row["reason"] for row in found["ledger"].values()} == {"near_duplicate"}
    assert {row["other_id"] for row in found["ledger"].values()} == {"c"}


def test_the_ledger_contains_the_true_jaccard(tmp_path: Path) -> None:
    base = words(1, 104)
    found = run(tmp_path, [doc("a", " ".join(base)), doc("b", " ".join(base[:-10]))])
    assert found["ledger"]["b"]["value"] == 90 / 100
    assert found["ledger"]["b"]["threshold"] == 0.8


def test_the_order_of_files_and_shards_does_not_matter(tmp_path: Path) -> None:
    rows = corpus(30)
    whole = run(tmp_path / "whole", rows)
    for name, seed in (("one", 1), ("two", 2)):
        shuffled = rows[:]
        random.Random(seed).shuffle(shuffled)
        parts = run(tmp_path / name, shuffled, shard_bytes=5_000)
        assert sorted(parts["kept"]) == whole["kept"]
        assert parts["ledger"] == whole["ledger"]
        assert parts["metrics"] == whole["metrics"]


def hash_files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}


def test_any_memory_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")
    rows = corpus(400)  # the documents fit in 1 MB, their keys and copies of them do not
    found = [
        run(tmp_path / str(memory_mb), rows, 50_000, PARAMS.model_copy(update={"memory_mb": memory_mb}))
        for memory_mb in (1, 1_000)
    ]
    assert hash_files(found[0]["out"]) == hash_files(found[1]["out"])
    assert found[0]["metrics"] == found[1]["metrics"]


def test_a_stopped_run_resumes_with_the_shards_it_has_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")
    whole = run(tmp_path / "whole", corpus(), shard_bytes=10_000)
    made: list[Path] = []
    write_sketch = sketches.write_sketch

    def stop_after_three(path: Path, result: Path, params: Dedupe) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(path)
        write_sketch(path, result, params)

    def record(path: Path, result: Path, params: Dedupe) -> None:
        made.append(path)
        write_sketch(path, result, params)

    monkeypatch.setattr(sketches, "write_sketch", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", corpus(), shard_bytes=10_000)
    shutil.rmtree(tmp_path / "parts" / "out")
    monkeypatch.setattr(sketches, "write_sketch", record)
    parts = run(tmp_path / "parts", corpus(), shard_bytes=10_000)
    assert len(made) == len(set(made)) == len(list((tmp_path / "parts" / "docs").iterdir())) > 3
    assert hash_files(parts["out"]) == hash_files(whole["out"])


def test_a_shard_given_twice_is_deduplicated(tmp_path: Path) -> None:
    once = run(tmp_path, corpus(30))
    shutil.copy(tmp_path / "docs" / "docs-00000.parquet", tmp_path / "docs" / "docs-00001.parquet")
    (tmp_path / "twice").mkdir()
    metrics = dedupe.run(PARAMS, docs=tmp_path / "docs", scratch=tmp_path / "scratch", out=tmp_path / "twice")
    assert metrics["docs_in"] == 2 * once["metrics"]["docs_in"]
    assert sorted(read_docs(tmp_path / "twice").column("id").to_pylist()) == sorted(once["kept"])


@pytest.mark.slow
def test_a_restart_after_kill_9_gives_the_same_bytes_and_sketches_no_shard_twice(tmp_path: Path) -> None:
    """Run a process under the frame that kills itself in its third shard, then another one."""
    run(tmp_path, corpus(), shard_bytes=10_000)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline import run\n"
        "from pipeline.dedupe import sketches, stage; made = []\n"
        "write = sketches.write_sketch\n"
        "def write_sketch(path, result, params):\n"
        "    made.append(path) or (len(made) == int(sys.argv[1]) and os.kill(os.getpid(), signal.SIGKILL))\n"
        "    write(path, result, params)\n"
        "sketches.write_sketch = write_sketch\n"
        "run.run_stage(stage, params_path=Path('params.yaml'), inputs={'docs': Path('docs')}, out=Path('again'),\n"
        "    metrics_path=Path('metrics.json'))\n"
        "print(len(made))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_ENGINE": "serial"}
    for kill_at, code_expected in (("3", -9), ("0", 0)):
        done = subprocess.run(
            [sys.executable, "-c", code, kill_at], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code_expected, done.stderr
        assert (tmp_path / "again").exists() == (kill_at == "0")
    n_shards = len(list((tmp_path / "docs").iterdir()))
    assert int(done.stdout.split()[-1]) == n_shards - 2
    assert hash_files(tmp_path / "again").keys() == hash_files(tmp_path / "out").keys()
    assert not (tmp_path / "scratch" / "dedupe").exists(), "nothing is left behind"
    assert read_docs(tmp_path / "again").equals(read_docs(tmp_path / "out"))


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workers.results.N_HERE", 1)
    digests = []
    for workers in ("1", "2"):
        monkeypatch.setenv("MINIGPT_WORKERS", workers)
        out = run(tmp_path / workers, corpus(), shard_bytes=20_000)["out"]
        digests.append(hash_files(out))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "texts",
    [
        ["one document"],
        [""],
        ["", "", "!!!", "???"],
        ["🙂" * 40, "🙂" * 40 + "!"],
        ["这是一个很长的没有空格的句子" * 3, "这是一个很长的没有空格的句子" * 3 + "。"],
        ["four words are few", "four words are few!"],
    ],
)
def test_texts_with_few_words_or_without_letters(tmp_path: Path, texts: list[str]) -> None:
    found = run(tmp_path, [doc(str(i), text) for i, text in enumerate(texts)])
    kept = {text for i, text in enumerate(texts) if str(i) in found["kept"]}
    assert (
        kept
        == {
            "one document": {"one document"},
            "": {""} if len(texts) == 1 else {"", "!!!", "???"},
            "🙂" * 40: {"🙂" * 40 + "!"},
            "这是一个很长的没有空格的句子" * 3: {"这是一个很长的没有空格的句子" * 3 + "。"},
            "four words are few": set(texts),
        }[texts[0]]
    )


def test_a_document_of_300_000_words(tmp_path: Path) -> None:
    base = words(1, 300_000)
    found = run(tmp_path, [doc("a", " ".join(base)), doc("b", " ".join(base[:-100])), doc("c", "short one")])
    assert found["kept"] == ["a", "c"]


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no documents"):
        run(tmp_path, [])


SEARCHED = PARAMS.model_copy(update={"search_sources": ["docs/"]})


def test_a_duplicate_with_another_title_is_kept_for_search_only(tmp_path: Path) -> None:
    """json.dumps is a near duplicate of json.dump, and the index has both names; the training text has one of them."""
    base = words(3)
    rows = [
        doc("dump", " ".join([*base, "longer"])),
        doc("dumps", " ".join(base)),
        doc("loads", " ".join(base)),
        {**doc("same title", " ".join(base)), "title": "dump"},
        doc("page", " ".join(base), "web/site"),
    ]
    found = run(tmp_path, rows, params=SEARCHED)
    assert found["kept"] == ["dump", "dumps", "loads"]
    assert found["search_only"] == ["dumps", "loads"]
    reasons = {doc_id: (row["decision"], row["reason"], row["other_id"]) for doc_id, row in found["ledger"].items()}
    assert reasons == {
        "dumps": ("changed", "search_only", "dump"),
        "loads": ("changed", "search_only", "dump"),
        "same title": ("dropped", "near_duplicate", "dump"),
        "page": ("dropped", "near_duplicate", "dump"),
    }


@pytest.mark.parametrize("repeats", [None, {"min_chars": 2, "max_docs": 1}])
def test_training_text_does_not_depend_on_documents_for_search_only(tmp_path: Path, repeats: Any) -> None:
    copies = [
        {**row, "id": f"{row['id']}x", "text": row["text"] + " in fact", "is_search_only": True} for row in corpus(30)
    ]
    params = Dedupe(**{**SEARCHED.model_dump(), "paragraphs": repeats})
    found = [
        run(tmp_path / name, rows, params=params) for name, rows in (("a", corpus(30)), ("b", [*corpus(30), *copies]))
    ]
    texts = []
    for each in found:
        table = read_docs(each["out"])
        kept = table.filter(pc.invert(table.column("is_search_only")))
        texts.append(dict(zip(kept["id"].to_pylist(), kept["text"].to_pylist(), strict=True)))
    assert texts[0] == texts[1]
    assert set(found[1]["search_only"]) > set(found[0]["search_only"]) > set()
