"""Launching: one process without torchrun, several with it, and two give what one gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.launch import default_processes, main
from tests.conftest import ROOT, stage_commands


def test_no_stage_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "torchrun" in capsys.readouterr().err


def test_a_wrong_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_PROCESSES", "zero")
    with pytest.raises(UserError, match="MINIGPT_PROCESSES"):
        default_processes(16)


@pytest.mark.parametrize(
    ("cores", "batch_rows", "expected"), [(1, 16, 1), (2, 16, 2), (3, 16, 2), (8, 16, 4), (8, 6, 2), (2, 15, 1)]
)
def test_processes_on_a_cpu_divide_the_batch(
    cores: int, batch_rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_DEVICE", "cpu")
    monkeypatch.setenv("MINIGPT_WORKERS", str(cores))
    assert default_processes(batch_rows) == expected


@pytest.mark.slow
def test_an_error_of_all_processes_is_said_once(road: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        (road / "params.yaml").read_text().replace("seq_len: 384", "seq_len: 1000000")
    )
    argv = [*stage_commands()["pretrain"], "--params", str(tmp_path / "params.yaml")]
    argv[argv.index("--out") + 1], argv[argv.index("--metrics") + 1] = str(tmp_path / "out"), str(tmp_path / "m.json")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_PROCESSES": "2", "MINIGPT_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.launch", *argv], cwd=road, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("does not fill one row") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_give_the_loss_of_one(road: Path, tmp_path: Path) -> None:
    """Real torchrun, two CPU processes: the same losses up to the order of sums."""
    argv = stage_commands()["pretrain"]
    out, metrics = tmp_path / "pretrain", tmp_path / "pretrain.json"
    argv[argv.index("--out") + 1], argv[argv.index("--metrics") + 1] = str(out), str(metrics)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MINIGPT_COMPILE": "0",
        "OMP_NUM_THREADS": "1",
        "MINIGPT_DEVICE": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.launch", "--nproc-per-node=2", *argv],
        cwd=road,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    alone = [json.loads(line) for line in (road / "data/pretrain/history.jsonl").read_text().splitlines()]
    assert [row["tokens"] for row in ours] == [row["tokens"] for row in alone]
    assert ours[0]["loss_nats"] == pytest.approx(alone[0]["loss_nats"], rel=1e-3)
    assert ours[-1]["loss_nats"] == pytest.approx(alone[-1]["loss_nats"], rel=2e-2)
    assert json.loads(metrics.read_text())["tokens"] == alone[-1]["tokens"]
    assert not list(tmp_path.glob("*.partial"))
