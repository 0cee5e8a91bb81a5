"""The stage guard: what it makes of our own wordings, of files that people bring, and of broken ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model.guard.categories import CATEGORIES, OUTPUTS
from model.guard.harm_classifier import HarmClassifier
from pipeline.storage.tables import read_table
from tests.conftest import ROOT, run_command, stage_commands


def read_metrics(workspace: Path) -> dict[str, float]:
    return json.loads((workspace / "data" / "metrics" / "guard.json").read_text())


def test_requests_are_told_from_lookalikes(finished_workspace: Path) -> None:
    """Even by the few wordings of the smoke recipe, on messages of the evaluation."""
    metrics = read_metrics(finished_workspace)
    assert metrics["unsafe_flagged_frac"] > 0.3 + metrics["lookalikes_flagged_frac"]
    assert metrics["unsafe_flagged_frac"] > 0.3 + metrics["documentation_unseen_flagged_frac"]


def test_metrics_count_what_was_trained_on(finished_workspace: Path) -> None:
    metrics = read_metrics(finished_workspace)
    assert metrics["wordings"] > metrics["wordings_harmful"] > 0.4 * metrics["wordings"]
    n_given = metrics["wordings"] + metrics["messages"] + metrics["sentences"]
    assert 0.9 * n_given <= metrics["texts"] <= 2 * n_given  # each text once, and messages by windows too
    assert metrics["labeled_texts"] == metrics["labeled_rejects"] == 0


def test_the_table_of_reliability_holds_every_text(finished_workspace: Path) -> None:
    calibration = json.loads((finished_workspace / "data" / "guard" / "calibration.json").read_text())
    assert sum(row["n"] for row in calibration["reliability"]) == read_metrics(finished_workspace)["texts"]
    caught = [row["harmful_caught_frac"] for row in calibration["thresholds"]]
    assert caught == sorted(caught, reverse=True)
    assert set(calibration["by_category"]) == set(CATEGORIES)
    assert (finished_workspace / "data" / "guard" / "reliability.svg").read_text().startswith("<svg")


@pytest.fixture
def workspace(finished_workspace: Path, tmp_path: Path) -> Path:
    """Return a workspace with what the stage reads."""
    for name in ("seed", "labels", "conversations", "index"):
        shutil.copytree(finished_workspace / "data" / name, tmp_path / "data" / name)
    shutil.copy(finished_workspace / "params.yaml", tmp_path)
    return tmp_path


def set_sources(workspace: Path, sources: str) -> None:
    params = workspace / "params.yaml"
    before, _, after = params.read_text().partition("\nguard:\n")
    head, _, tail = after.partition("  sources: []")
    _, _, tail = tail.partition("  licenses: null")
    params.write_text(f"{before}\nguard:\n{head}  sources: {sources}\n  licenses: [MIT]{tail}")


def test_files_that_people_bring_are_learned_and_bad_rows_are_counted(workspace: Path) -> None:
    nonsense = [{"text": f"please frobnicate the wug {n}", "label": "harmful", "category": "own"} for n in range(30)]
    bad = [
        {"text": "no label here"},
        {"text": "", "label": "harmful"},
        {"text": "other license", "label": 0, "license": "GPL-3.0"},
        {"text": "please frobnicate the wug 1", "label": "harmless"},
        {"text": "what category", "label": "unsafe", "category": "zzz" * 100},
    ]
    lines = [json.dumps(row) for row in (*nonsense, *bad)] + ["{broken"]
    (workspace / "data" / "labels" / "own.jsonl").write_text("\n".join(lines))
    set_sources(workspace, "[{name: own, path: own.jsonl, license: MIT, weight: 3.0, categories: {own: fraud}}]")
    assert run_command(workspace, stage_commands()["guard"]) == 0
    metrics = read_metrics(workspace)
    assert (metrics["labeled_texts"], metrics["labeled_rejects"]) == (30, 6)
    rejects = read_table(workspace / "data" / "guard" / "rejects.parquet").to_pylist()
    assert [row["reason"] for row in rejects][:5] == [
        "no_label",
        "no_text",
        "license",
        "contradiction",
        "unknown_category",
    ]
    assert all(len(row["detail"]) < 250 for row in rejects)
    scores = HarmClassifier.load(workspace / "data" / "guard").score(["please frobnicate the wug now"])[0]
    assert scores[OUTPUTS.index("fraud")] > 0.5
    assert scores[-1] > 0.5


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ("[{name: own, path: nowhere.jsonl, license: MIT}]", "nowhere.jsonl"),
        ("[{name: own, path: own.jsonl, license: MIT, text: question}]", "guard.sources: own"),
        ("[{name: own, path: ../secret, license: MIT}]", "guard.sources"),
    ],
)
def test_a_source_that_gives_nothing_stops_the_stage(
    sources: str, named: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "data" / "labels" / "own.jsonl").write_text(json.dumps({"text": "a", "label": "harmful"}) + "\n")
    set_sources(workspace, sources)
    assert run_command(workspace, stage_commands()["guard"]) == 1
    assert named in capsys.readouterr().err
    assert not (workspace / "data" / "guard").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("- theme: a\n  category: nonsense\n", "nonsense"),
        ("- theme: a\n  catgory: fraud\n", "catgory"),
        ("a: 1\n", "not a list"),
        ("- theme: hacking\n  category: fraud\n  deeds: x\n", "another theme"),
    ],
)
def test_a_broken_theme_is_named(content: str, named: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "data" / "seed" / "guard" / "own.yaml").write_text(content)
    assert run_command(workspace, stage_commands()["guard"]) == 1
    error = capsys.readouterr().err
    assert named in error
    assert "own.yaml" in error


def test_no_held_out_message_is_a_wording_of_ours() -> None:
    """The evaluation's messages are measured: none of them may be a whole template."""
    lines = "\n".join(path.read_text() for path in (ROOT / "data" / "seed" / "guard").glob("*.yaml")).lower()
    for path in (ROOT / "data" / "seed" / "evaluation").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            message = json.loads(line).get("user", "")
            assert len(message) < 30 or message.lower() not in lines
