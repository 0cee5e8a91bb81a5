"""Each rule drops what it should for the reason it gives, the language model is good, and the books balance."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import filter as stage
from pipeline.errors import UserError
from pipeline.params import Filter, load_params
from pipeline.stage import check_metrics
from pipeline.tables import DOCS, ShardWriter, read_docs, read_table
from pipeline.text.rules import PASSES, Rule, first_broken

ROOT = Path(__file__).parents[2]
LANGUAGES = ROOT / "data" / "seed" / "languages"
ENGLISH = (
    "alpha.norm(x, axis)\n\nCompute the norm of a matrix along the given axis, and return it with the shape of the input.\n"
    "Values that are missing have no weight. The result of an empty input is zero.\n"
)
GERMAN = (
    "alpha.norm(x, axis)\n\nBerechnet die Norm einer Matrix entlang der angegebenen Achse und gibt sie zurück.\n"
    "Fehlende Werte haben kein Gewicht. Das Ergebnis einer leeren Eingabe ist null.\n"
)


@pytest.fixture(scope="module")
def params() -> Filter:
    return load_params(ROOT / "params.yaml").filter


def doc(doc_id: str, text: str, licence: str = "MIT") -> dict[str, str]:
    return {
        "id": doc_id,
        "text": text,
        "source": "docs",
        "locator": "{}",
        "title": doc_id,
        "url": "",
        "licence": licence,
    }


@pytest.fixture(scope="module")
def hasty(params: Filter) -> Filter:
    """Trains its language model in a moment, well enough for plain German and English."""
    quick = {"n_epochs": 4, "n_spans": 0, "n_mixed": 0, "keep_weight": 1, "n_buckets": 20_000}
    return params.model_copy(update={"language": params.language.model_copy(update=quick)})


PLANTED = {
    "": [doc("good", ENGLISH), doc("short", "alpha.end()\n\nClose the file and free the lock.\n")],
    "language": [
        doc("german", GERMAN),
        doc("chinese", "计算矩阵沿给定轴的范数，并以输入的形状返回。"),
        doc("emoji", "🙂🙂🙂"),
        doc("empty", ""),
    ],
    "min_words": [doc("tiny", "alpha.end()\n\nClose it.\n")],
    "max_symbol_word_frac": [doc("hashes", ENGLISH + "chapter #1 #2\n" * 2 + "### part ### of ### that ###")],
    "max_dup_line_frac": [doc("lines", ENGLISH + "buy now\n" * 40)],
    "max_ellipsis_line_frac": [
        doc("teaser", "The story of the day...\nA tale for you and me...\nWhat will they find in it?\n")
    ],
    "licence": [
        doc("closed", ENGLISH + "One line more.\n", "GPL-3.0-only"),
        doc("nobody", ENGLISH + "And one.\n", "unknown"),
    ],
}


def run(tmp_path: Path, params: Filter, rows: list[dict[str, str]], shard_bytes: int = 1_000_000) -> dict[str, Any]:
    out = tmp_path / "out"
    out.mkdir(parents=True)
    with ShardWriter(tmp_path / "docs", DOCS, shard_bytes) as writer:
        writer.write(pa.Table.from_pylist(sorted(rows, key=lambda row: row["id"]), schema=DOCS))
    metrics = stage.run(params, docs=tmp_path / "docs", languages=LANGUAGES, out=out)
    check_metrics("filter", metrics)
    return {"metrics": metrics, "out": out}


@pytest.fixture(scope="module")
def planted(params: Filter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("planted"), params, [row for rows in PLANTED.values() for row in rows])


def test_each_document_goes_for_its_reason(planted: dict[str, Any]) -> None:
    ledger = {row["id"]: row for row in read_table(planted["out"] / "ledger.parquet").to_pylist()}
    expected = {row["id"]: reason for reason, rows in PLANTED.items() for row in rows if reason}
    assert {doc_id: row["reason"] for doc_id, row in ledger.items()} == expected
    assert read_docs(planted["out"]).column("id").to_pylist() == ["good", "short"]
    for reason in set(expected.values()):
        assert planted["metrics"][f"dropped_{reason}"] == len(PLANTED[reason])


def test_values_are_on_the_wrong_side_of_their_thresholds(planted: dict[str, Any], params: Filter) -> None:
    rules = {rule.reason: rule for rule in stage.list_rules(params)}
    for row in read_table(planted["out"] / "ledger.parquet").to_pylist():
        rule = rules[row["reason"]]
        assert row["threshold"] == rule.threshold
        assert row["value"] < row["threshold"] if rule.side == "min" else row["value"] > row["threshold"]


def test_every_rule_has_a_metric_and_a_score_for_every_document(planted: dict[str, Any], params: Filter) -> None:
    scores = read_table(planted["out"] / "scores.parquet")
    assert scores.num_rows == planted["metrics"]["docs_in"]
    for rule in stage.list_rules(params):
        assert f"dropped_{rule.reason}" in planted["metrics"]
        assert scores.column(rule.score).null_count == 0


def test_the_stored_scores_and_rules_are_enough_to_decide_again(planted: dict[str, Any]) -> None:
    scores = read_table(planted["out"] / "scores.parquet")
    rules = [Rule(**each) for each in json.loads((planted["out"] / "rules.json").read_text())]
    broken = first_broken(scores, rules).tolist()
    kept = [doc_id for doc_id, place in zip(scores.column("id").to_pylist(), broken, strict=True) if place == PASSES]
    assert kept == read_docs(planted["out"]).column("id").to_pylist()


def test_the_language_model_is_good_on_sentences_it_never_saw(planted: dict[str, Any]) -> None:
    assert planted["metrics"]["language_heldout_accuracy_frac"] >= 0.95
    assert planted["metrics"]["language_false_english_frac"] <= 0.005
    assert (planted["out"] / "language.bin").stat().st_size < 16_000_000
    assert {path.name for path in planted["out"].iterdir()} == {
        "docs-00000.parquet",
        "language.bin",
        "ledger.parquet",
        "rules.json",
        "scores.parquet",
    }


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes(
    tmp_path: Path, hasty: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [doc(f"{i:05d}", f"alpha.f{i}(x)\n\n{ENGLISH if i % 4 else GERMAN}") for i in range(5_000)]
    monkeypatch.setattr(stage, "N_HERE", 1)
    digests = []
    for workers in ("1", "2"):
        monkeypatch.setenv("MINIGPT_WORKERS", workers)
        out = run(tmp_path / workers, hasty, rows, shard_bytes=300_000)["out"]
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()})
    assert len(list((tmp_path / "1" / "docs").iterdir())) > 2
    assert digests[0] == digests[1]


def test_everything_filtered_out_names_the_commonest_reason(tmp_path: Path, hasty: Filter) -> None:
    rows = [doc("a", GERMAN), doc("b", GERMAN + "Noch ein Satz.\n"), doc("c", ENGLISH, "unknown")]
    with pytest.raises(UserError, match="2 of 3 were dropped by language"):
        run(tmp_path, hasty, rows)


def test_an_empty_corpus_is_an_error(tmp_path: Path, params: Filter) -> None:
    with pytest.raises(UserError, match="no documents"):
        run(tmp_path, params, [])
