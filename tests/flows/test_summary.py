"""The summary of a run tells a refusal from a candidate that is as good as the champion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.steps.sequence import COMPLETED, OUTCOMES, REFUSED, StepResult
from flows.steps.summary import list_summary


@pytest.mark.parametrize(
    ("result", "role", "is_loud"),
    [
        (StepResult(COMPLETED, "done"), "(champion)", False),
        (StepResult(REFUSED, "equal: no metric differs"), "(equal to the champion)", False),
        (StepResult(REFUSED, "worse: bpb 1.8"), "(REFUSED BY THE GATE)", True),
    ],
)
def test_the_role_of_the_version(tmp_path: Path, result: StepResult, role: str, is_loud: bool) -> None:
    for path, content in (
        (tmp_path / OUTCOMES / "publish.json", {"version": "2"}),
        (tmp_path / "data/metrics/evaluate.json", {"bpb": 1.4}),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    lines = list_summary(tmp_path, result, 61.0)
    assert lines[0] == f"Version 2 of minigpt {role}, after 1 min 1 s."
    assert ("!" * 78 in lines) is is_loud
    assert any("The champion stays" in line for line in lines) is (result.name == REFUSED)
