"""Reports of a run while it trains."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from model.training.loop import StepRecord
from pipeline.training.live import PROFILES, STEPS_BEFORE, STEPS_PROFILED, Live


def make_record(step: int) -> StepRecord:
    return StepRecord(
        step=step,
        loss_nats=1 / step,
        lr=1.0,
        tokens=8 * step,
        seconds=0.1 * step,
        tokens_per_second=80.0,
        grad_norm=1.0,
        evaluation={"bpb": 2.0} if step == 2 else {},
    )


def test_each_step_is_written_immediately(tmp_path: Path) -> None:
    with Live("pretrain", tmp_path) as live:
        for step in (1, 2):
            live.on_step(make_record(step))
            lines = (tmp_path / "steps.jsonl").read_text().splitlines()
            assert [StepRecord.from_dict(json.loads(line)) for line in lines] == [
                make_record(n) for n in range(1, step + 1)
            ]


def test_resumed_run_appends_to_the_file(tmp_path: Path) -> None:
    for step in (3, 4):
        with Live("pretrain", tmp_path) as live:
            live.on_step(make_record(step))
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 4]


def test_nothing_is_opened_before_the_first_step(tmp_path: Path) -> None:
    with Live("pretrain", tmp_path / "nowhere"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n_steps", [2, STEPS_BEFORE + 1, STEPS_BEFORE + STEPS_PROFILED + 2])
def test_profile_covers_a_few_steps(n_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGPT_PROFILE", "1")
    with Live("sft", tmp_path) as live:
        for step in range(1, n_steps + 1):
            with torch.profiler.record_function(f"step {step}"):
                torch.ones(2, 2).sum()
            live.on_step(make_record(step))
    path = PROFILES / "sft.json.gz"
    assert path.exists() == (n_steps >= STEPS_BEFORE + STEPS_PROFILED)
    if path.exists():
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        profiled = {event["name"] for event in events if event.get("name", "").startswith("step ")}
        assert profiled == {f"step {STEPS_BEFORE + number}" for number in range(1, STEPS_PROFILED + 1)}
