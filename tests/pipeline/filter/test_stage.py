"""Each rule drops documents for its own reason, the language model is accurate, and the counts reconcile."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.filter import stage
from pipeline.filter.decisions import PASSES, FilterStep, Rule, Scored, find_first_broken
from pipeline.filter.params import C4, Filter, FineWeb, Pii, QualityClassifier
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import check_metrics
from pipeline.params import load_params
from pipeline.screening.params import Decontamination, Licenses
from pipeline.storage.tables import DOCS, ShardWriter, read_docs, read_table

ROOT = Path(__file__).parents[3]
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


def list_all_rules(params: Filter) -> list[Rule]:
    return [each for step in stage.list_steps(params, [Path("language.bin")]) for each in step.rules]


def make_doc(doc_id: str, text: str, license: str = "MIT") -> dict[str, str]:
    return {
        "id": doc_id,
        "text": text,
        "source": "docs",
        "locator": "{}",
        "title": doc_id,
        "url": "",
        "license": license,
    }


@pytest.fixture(scope="module")
def quick_params(params: Filter) -> Filter:
    """Train the language model in a fraction of a second, accurately enough for plain German and English."""
    quick = {"n_epochs": 4, "n_spans": 0, "n_mixed": 0, "keep_weight": 1, "n_buckets": 20_000}
    return params.model_copy(update={"language": params.language.model_copy(update=quick)})


PLANTED = {
    "": [make_doc("good", ENGLISH), make_doc("short", "alpha.end()\n\nClose the file and free the lock.\n")],
    "language": [
        make_doc("german", GERMAN),
        make_doc("chinese", "计算矩阵沿给定轴的范数，并以输入的形状返回。"),
        make_doc("emoji", "🙂🙂🙂"),
        make_doc("empty", ""),
    ],
    "min_words": [make_doc("tiny", "alpha.end()\n\nClose it.\n")],
    "max_symbol_word_frac": [make_doc("hashes", ENGLISH + "chapter #1 #2\n" * 2 + "### part ### of ### that ###")],
    "max_dup_line_frac": [make_doc("lines", ENGLISH + "buy now\n" * 40)],
    "max_ellipsis_line_frac": [
        make_doc("teaser", "The story of the day...\nA tale for you and me...\nWhat will they find in it?\n")
    ],
    "license_not_allowed": [make_doc("closed", ENGLISH + "One line more.\n", "GPL-3.0-only")],
    "license_unknown": [make_doc("nobody", ENGLISH + "And one.\n", "unknown")],
}


def run_stage(
    tmp_path: Path, params: Filter, rows: list[dict[str, str]], shard_bytes: int = 1_000_000
) -> dict[str, Any]:
    out = tmp_path / "out"
    out.mkdir(parents=True)
    (tmp_path / "scratch").mkdir(exist_ok=True)
    with ShardWriter(tmp_path / "docs", DOCS, shard_bytes) as writer:
        table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["id"]), schema=DOCS)
        for batch in table.to_batches(max_chunksize=100):
            writer.write(batch)
    inputs = {"docs": tmp_path / "docs", "languages": LANGUAGES, "sets": tmp_path, "examples": tmp_path}
    metrics = stage.run(params, **inputs, scratch=tmp_path / "scratch", out=out)
    check_metrics("filter", metrics)
    return {"metrics": metrics, "out": out}


@pytest.fixture(scope="module")
def planted(params: Filter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_stage(tmp_path_factory.mktemp("planted"), params, [row for rows in PLANTED.values() for row in rows])


def test_each_document_is_dropped_for_its_reason(planted: dict[str, Any]) -> None:
    ledger = {row["id"]: row for row in read_table(planted["out"] / "ledger.parquet").to_pylist()}
    expected = {row["id"]: reason for reason, rows in PLANTED.items() for row in rows if reason}
    assert {doc_id: row["reason"] for doc_id, row in ledger.items()} == expected
    assert read_docs(planted["out"]).column("id").to_pylist() == ["good", "short"]
    for reason in set(expected.values()):
        assert planted["metrics"][f"dropped_{reason}"] == len(PLANTED[reason])


def test_ledger_values_violate_their_thresholds(planted: dict[str, Any], params: Filter) -> None:
    rules = {rule.reason: rule for rule in list_all_rules(params)}
    for row in read_table(planted["out"] / "ledger.parquet").to_pylist():
        rule = rules[row["reason"]]
        assert row["threshold"] == rule.threshold
        assert row["value"] < row["threshold"] if rule.side == "min" else row["value"] > row["threshold"]


def test_every_rule_has_a_metric_and_a_score_for_every_document(planted: dict[str, Any], params: Filter) -> None:
    scores = read_table(planted["out"] / "scores.parquet")
    assert scores.num_rows == planted["metrics"]["docs_in"]
    for rule in list_all_rules(params):
        assert f"dropped_{rule.reason}" in planted["metrics"]
        assert scores.column(rule.score).null_count == 0


def test_stored_scores_and_rules_reproduce_the_decisions(planted: dict[str, Any]) -> None:
    scores = read_table(planted["out"] / "scores.parquet")
    rules = [Rule(**each) for each in json.loads((planted["out"] / "rules.json").read_text())]
    broken = find_first_broken(scores, rules).tolist()
    kept = [doc_id for doc_id, index in zip(scores.column("id").to_pylist(), broken, strict=True) if index == PASSES]
    assert kept == read_docs(planted["out"]).column("id").to_pylist()


def test_the_language_model_is_accurate_on_held_out_sentences(planted: dict[str, Any]) -> None:
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


def test_no_language_model_is_trained_where_no_language_is_judged(
    tmp_path: Path, params: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> None:
        pytest.fail("a model was trained")

    monkeypatch.setattr("pipeline.filter.prepare.train_language", train)
    unjudged = params.model_copy(update={"language": params.language.model_copy(update={"min_score": 0.0})})
    result = run_stage(tmp_path, unjudged, [make_doc("good", ENGLISH), make_doc("german", GERMAN)])
    assert read_docs(result["out"]).column("id").to_pylist() == ["german", "good"]
    assert "language" not in read_table(result["out"] / "scores.parquet").column_names
    assert not [name for name in result["metrics"] if "language" in name]
    assert not (result["out"] / "language.bin").exists()


@pytest.mark.slow
def test_one_worker_and_two_write_the_same_bytes(
    tmp_path: Path, quick_params: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_doc(f"{i:05d}", f"alpha.f{i}(x)\n\n{ENGLISH if i % 4 else GERMAN}") for i in range(5_000)]
    monkeypatch.setattr("pipeline.workers.results.N_HERE", 1)
    digests = []
    for workers in ("1", "2"):
        monkeypatch.setenv("MINIGPT_WORKERS", workers)
        out = run_stage(tmp_path / workers, quick_params, rows, shard_bytes=300_000)["out"]
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()})
    assert len(list((tmp_path / "1" / "docs").iterdir())) > 2
    assert digests[0] == digests[1]


def test_an_empty_result_reports_the_most_frequent_reason(tmp_path: Path, quick_params: Filter) -> None:
    rows = [make_doc("a", GERMAN), make_doc("b", GERMAN + "Noch ein Satz.\n"), make_doc("c", ENGLISH, "unknown")]
    with pytest.raises(UserError, match="2 of 3 were dropped by language"):
        run_stage(tmp_path, quick_params, rows)


def test_an_empty_corpus_is_an_error(tmp_path: Path, params: Filter) -> None:
    with pytest.raises(UserError, match="no documents"):
        run_stage(tmp_path, params, [])


def uppercase_norm(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
    """Rewrite "norm" and count the changes."""
    counts = pc.count_substring(texts, "norm")
    return Scored(pc.replace_substring(texts, "norm", "NORM"), pa.record_batch({"changed_norm": counts}))


def count_uppercase(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
    return Scored(texts, pa.record_batch({"loud": pc.count_substring(texts, "NORM")}))


def test_a_step_rewrites_for_later_steps_and_the_ledger_records_it(
    tmp_path: Path, quick_params: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [FilterStep([], uppercase_norm), FilterStep([Rule("max_loud", "loud", "max", 3.0)], count_uppercase)]
    monkeypatch.setattr(stage, "list_steps", lambda *_: steps)
    monkeypatch.setattr("pipeline.workers.results.N_HERE", 100)
    texts = ["quiet", "norm", "norm norm and norm", "norm " * 4]
    result = run_stage(tmp_path, quick_params, [make_doc(f"{i}", text) for i, text in enumerate(texts)])
    assert read_docs(result["out"]).column("text").to_pylist() == ["quiet", "NORM", "NORM NORM and NORM"]
    rows = read_table(result["out"] / "ledger.parquet").to_pylist()
    assert [(row["id"], row["decision"], row["reason"], row["value"], row["threshold"]) for row in rows] == [
        ("1", "changed", "norm", 1.0, 0.0),
        ("2", "changed", "norm", 3.0, 0.0),
        ("3", "dropped", "max_loud", 4.0, 3.0),
    ]
    assert {row["stage"] for row in rows} == {"filter"}
    expected = {"docs_in": 4, "docs_out": 3, "dropped_max_loud": 1, "changed_norm_docs": 2, "changed_norm_places": 4}
    assert expected.items() <= result["metrics"].items()
    assert "text" not in read_table(result["out"] / "scores.parquet").column_names


def test_an_interrupted_run_resumes_with_the_shards_it_has_scored(
    tmp_path: Path, quick_params: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")
    rows = [make_doc(f"{i:04d}", f"alpha.f{i}(x)\n\n{ENGLISH}") for i in range(1_200)]
    whole = run_stage(tmp_path / "whole", quick_params, rows, shard_bytes=30_000)["out"]
    real, scored = stage.score_shard, list[str]()

    def score_three(path: Path, *rest: Any, **named: Any) -> None:
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(path.name)
        real(path, *rest, **named)

    monkeypatch.setattr(stage, "score_shard", score_three)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "again", quick_params, rows, shard_bytes=30_000)
    shutil.rmtree(tmp_path / "again" / "out")
    monkeypatch.setattr(
        stage, "score_shard", lambda path, *rest, **named: (scored.append(path.name), real(path, *rest, **named))
    )
    again = run_stage(tmp_path / "again", quick_params, rows, shard_bytes=30_000)["out"]
    assert len(scored) == len(set(scored)) == len(list((tmp_path / "again" / "docs").iterdir())) > 4
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in whole.iterdir())


def test_each_rule_names_its_param(planted: dict[str, Any], params: Filter) -> None:
    settings = params.model_dump()
    for each in json.loads((planted["out"] / "rules.json").read_text()):
        value: Any = settings
        for part in each["param"].split(".")[1:]:
            value = value[int(part) if part.isdigit() else part]
        assert each["reason"].startswith("license_") or value == each["threshold"]


LEAK = "the seven old boats of the harbour were painted green by a careful man from the next village"


def test_a_planted_leak_is_dropped_and_the_ledger_names_set_and_item(tmp_path: Path, quick_params: Filter) -> None:
    (tmp_path / "quiz.jsonl").write_text(
        json.dumps({"question": "Who?"}) + "\n" + json.dumps({"question": LEAK}) + "\n"
    )
    sets = [{"name": "quiz", "path": "quiz.jsonl", "fields": ["question"]}]
    changed = quick_params.model_copy(update={"decontamination": Decontamination.model_validate({"sets": sets})})
    result = run_stage(
        tmp_path, changed, [make_doc("a", ENGLISH), make_doc("b", f"{ENGLISH}So it is said that {LEAK.upper()}!\n")]
    )
    row = read_table(result["out"] / "ledger.parquet").to_pylist()[0]
    assert (row["id"], row["reason"], row["other_id"]) == ("b", "contaminated", "quiz:quiz.jsonl#2")
    assert result["metrics"]["dropped_contaminated"] == result["metrics"]["contaminated_quiz_docs"] == 1


def test_personal_data_is_replaced_and_counted(tmp_path: Path, quick_params: Filter) -> None:
    changed = quick_params.model_copy(update={"pii": Pii()})
    result = run_stage(
        tmp_path, changed, [make_doc("a", ENGLISH), make_doc("b", f"{ENGLISH}Ask jane.doe@mail.org or bob@mail.org.\n")]
    )
    assert read_docs(result["out"]).column("text").to_pylist() == [ENGLISH, f"{ENGLISH}Ask <EMAIL> or <EMAIL>.\n"]
    row = read_table(result["out"] / "ledger.parquet").to_pylist()[0]
    assert (row["id"], row["decision"], row["reason"], row["value"]) == ("b", "changed", "pii_email", 2.0)
    assert result["metrics"]["changed_pii_email_places"] == 2


@pytest.mark.parametrize("policy", [{"on_violation": "stop", "unknown": "keep"}, {"unknown": "stop"}])
def test_a_license_violation_can_stop_the_stage(policy: dict[str, str], tmp_path: Path, quick_params: Filter) -> None:
    changed = quick_params.model_copy(update={"licenses": Licenses.model_validate({"allow": ["MIT"], **policy})})
    rows = [make_doc("a", ENGLISH), make_doc("b", ENGLISH, "GPL-3.0-only" if "on_violation" in policy else "unknown")]
    with pytest.raises(UserError, match="not permitted: 1") as caught:
        run_stage(tmp_path, changed, rows)
    assert ("unknown to drop or keep" in str(caught.value)) == ("on_violation" not in policy)


def test_a_quality_classifier_keeps_the_best_fraction(tmp_path: Path, quick_params: Filter) -> None:
    good = [
        make_doc(f"g{i}", f"{ENGLISH}The careful answer number {i} explains why the result is right.\n")
        for i in range(150)
    ]
    bad = [make_doc(f"b{i}", f"{ENGLISH}Click here and buy now, offer {i} ends soon, subscribe!\n") for i in range(150)]
    rows = [{**row, "source": "good"} for row in good] + [{**row, "source": "bad"} for row in bad]
    settings = {"positives": {"sources": ["good"]}, "negatives": {"sources": ["bad"]}, "keep_frac": 0.5, "dim": 8}
    classifier = QualityClassifier.model_validate({**settings, "learning_rate": 0.5, "n_buckets": 10_000})
    result = run_stage(tmp_path, quick_params.model_copy(update={"quality_classifier": classifier}), rows)
    assert {row["id"][0] for row in read_docs(result["out"]).to_pylist()} == {"g"}
    assert result["metrics"]["dropped_quality_classifier"] == 150
    assert result["metrics"]["quality_auc_frac"] > 0.99
    rules = {each["reason"]: each for each in json.loads((result["out"] / "rules.json").read_text())}
    assert 0 < rules["quality_classifier"]["threshold"] < 1
    assert result["metrics"]["quality_min_score"] == rules["quality_classifier"]["threshold"]


def test_web_rules_rewrite_documents_and_every_change_has_a_row(tmp_path: Path, quick_params: Filter) -> None:
    web = quick_params.model_copy(
        update={"gopher_quality": None, "gopher_repetition": None, "c4": C4(), "fineweb": FineWeb()}
    )
    good = "The river is long and wide. It was named in 1872.[3] Nobody knows by whom. It ends in the sea. Boats go there.\n"
    texts = {
        "clean": good.replace("[3]", "").strip(),
        "cited": good + "Home | About us\nPlease enable JavaScript to go on.\n",
        "code": good + "A line of code is {here} as well.",
        "few": "The river is long and wide.",
        "twice": good.replace("[3]", "") * 2,
    }
    result = run_stage(tmp_path, web, [make_doc(doc_id, text) for doc_id, text in texts.items()])
    kept = {row["id"]: row["text"] for row in read_docs(result["out"]).to_pylist()}
    assert kept == {"clean": texts["clean"], "cited": texts["clean"]}
    rows = read_table(result["out"] / "ledger.parquet").to_pylist()
    assert {(row["id"], row["decision"], row["reason"], row["value"]) for row in rows} == {
        ("cited", "changed", "c4_unended_lines", 1.0),
        ("cited", "changed", "c4_javascript_lines", 1.0),
        ("cited", "changed", "c4_citations", 1.0),
        ("code", "dropped", "max_curly_bracket_lines", 1.0),
        ("few", "dropped", "min_sentences", 1.0),
        ("twice", "dropped", "max_repeated_line_char_frac", 0.5),
    }
    assert result["metrics"]["changed_c4_citations_docs"] == result["metrics"]["changed_c4_citations_places"] == 1


def test_what_only_breaks_rules_about_quality_remains_for_search(
    planted: dict[str, Any], params: Filter, tmp_path: Path
) -> None:
    mail = make_doc("mail", ENGLISH + "Write to jane.doe@realmail.org now\n" * 40)
    rows = [row for rows in PLANTED.values() for row in rows]
    found = run_stage(tmp_path, params.model_copy(update={"search_sources": ["do"]}), [*rows, mail])
    saved = ["tiny", "hashes", "lines", "teaser", "mail"]
    docs = read_docs(found["out"])
    flags = dict(zip(docs.column("id").to_pylist(), docs.column("is_search_only").to_pylist(), strict=True))
    assert {doc_id for doc_id, flag in flags.items() if flag} == set(saved)
    assert [doc_id for doc_id, flag in flags.items() if not flag] == ["good", "short"]
    assert found["metrics"]["search_only_docs"] == found["metrics"]["changed_search_only_docs"] == len(saved)
    texts = dict(zip(docs.column("id").to_pylist(), docs.column("text").to_pylist(), strict=True))
    assert "jane.doe" not in texts["mail"]
    ledger = read_table(found["out"] / "ledger.parquet").to_pylist()
    assert ledger == sorted(ledger, key=lambda row: (row["id"], row["reason"]))
    by_id = {row["id"]: row for row in ledger if row["reason"] == "search_only"}
    before = {row["id"]: row for row in read_table(planted["out"] / "ledger.parquet").to_pylist()}
    for doc_id in ("tiny", "hashes", "lines", "teaser"):
        assert {**before[doc_id], "decision": "changed", "reason": "search_only"} == by_id[doc_id]
    assert [before[doc_id]["reason"] for doc_id in before if doc_id not in by_id] == [
        row["reason"] for row in ledger if row["decision"] == "dropped"
    ]
