"""The gate reads what the red team found: a report about these weights, attached to the version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.network.hashes import hash_file
from pipeline.frame.errors import UserError
from pipeline.registry.red_team import read_red_team
from tests.fake_repo import FakeRepo

METRICS = {"redteam_harmful_failed_frac": 0.2, "redteam_harmful_failed_frac_se": 0.05, "n_redteam_harmful": 20}


def write_report(path: Path, digest: str, metrics: dict[str, object]) -> Path:
    path.write_text(json.dumps({"about": {"model_sha256": digest}, "metrics": metrics}))
    return path


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"about": {"model_sha256": "x"}, "metrics": {}}',
        '{"about": {"model_sha256": "x"}, "metrics": {"bpb": 0}}',
    ],
)
def test_what_is_no_report_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "redteam.json"
    path.write_text(content)
    with pytest.raises(UserError, match="not a red-team report"):
        read_red_team(path)
    with pytest.raises(UserError, match="not a red-team report"):
        read_red_team(write_report(path, "x", {"redteam_a": float("nan")}))


@pytest.mark.slow
def test_the_gate_bounds_what_the_red_team_found(tmp_path: Path) -> None:
    repo = FakeRepo(tmp_path / "repo")
    repo.repro(answer="first")
    repo.registry("publish")
    params = repo.root / "params.yaml"
    bounded = params.read_text().replace("at_most: {", "at_most: {redteam_harmful_failed_frac: 0.1, ")
    assert bounded != params.read_text()
    params.write_text(bounded)
    assert "red-team" in repo.registry("gate", code=1)
    other = write_report(repo.root / "other.json", "0" * 64, METRICS)
    assert "it is about other weights" in repo.registry("attach", str(other), code=1)
    digest = hash_file(repo.root / "data" / "sft" / "model.safetensors")
    repo.registry("attach", str(write_report(repo.root / "redteam.json", digest, METRICS)))
    assert "redteam_harmful_failed_frac" in repo.registry("gate", code=3)
    better = METRICS | {"redteam_harmful_failed_frac": 0.0}
    repo.registry("attach", str(write_report(repo.root / "redteam.json", digest, better)))
    repo.registry("gate")
