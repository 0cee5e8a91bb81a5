"""Sweeps with real trials: trials fail, are killed and resume, and the workspace is not modified."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from pipeline.params import load_params
from pipeline.sweep.__main__ import format_command, print_trials
from pipeline.sweep.space import Sweep
from pipeline.sweep.study import TrialRow
from tests.conftest import ROOT
from tests.pipeline.conftest import sentence, write_docs

RATE = "pretrain.training.matrix_lr"
LENGTH = "pretrain.model.seq_len"
SHORT = {
    "pretrain.model.n_layer": 1,
    "pretrain.model.d_ff": 32,
    "pretrain.training.total_steps": 6,
    "pretrain.training.batch_rows": 2,
    "pretrain.training.eval_every": 2,
    "pretrain.eval_tokens": 500,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tokenizer and shards of a few documents."""
    import random

    from pipeline.shard import stage as shard
    from pipeline.train_tokenizer import stage as train_tokenizer

    folder, rng = tmp_path_factory.mktemp("sweep"), random.Random(1)
    params = load_params(ROOT / "docs/recipes/smoke.yaml")
    docs = write_docs(folder / "docs", [" ".join(sentence(rng) for _ in range(20)) for _ in range(100)])
    for name in ("tokenizer", "shard", "scratch"):
        (folder / name).mkdir()
    small = params.train_tokenizer.model_copy(update={"vocab_size": 400})
    train_tokenizer.run(small, docs=docs, out=folder / "tokenizer")
    shard.run(params.shard, docs=docs, tokenizer=folder / "tokenizer", scratch=folder / "scratch", out=folder / "shard")
    return folder


def write_space(workspace: Path, **changed: Any) -> None:
    """Write space.yaml and params.yaml."""
    workspace.mkdir(exist_ok=True)
    space = {"space": {RATE: {"low": 0.001, "high": 0.05, "log": True}}, "set": SHORT | {LENGTH: 32}, "trials": 2}
    (workspace / "space.yaml").write_text(json.dumps(space | changed))
    (workspace / "params.yaml").write_text((ROOT / "docs/recipes/smoke.yaml").read_text())


def start(workspace: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    inputs = ["--shards", str(data / "shard"), "--tokenizer", str(data / "tokenizer")]
    environment = {**os.environ, "MINIGPT_COMPILE": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.sweep", "space.yaml", *inputs, *more],
        cwd=workspace,
        env=environment | {"MINIGPT_WORKERS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_trials(workspace: Path) -> list[dict[str, Any]]:
    """Return the trials without clock readings, by number."""
    rows = json.loads((workspace / "var/sweep/space/trials.json").read_text())
    clocks = ("train_seconds", "tokens_per_second")
    return sorted(
        ({name: value for name, value in row.items() if name not in clocks} for row in rows), key=lambda r: r["trial"]
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_failed_trials_are_listed_and_the_others_ranked(data: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    write_space(
        tmp_path,
        space={LENGTH: [32, 100_000], "pretrain.model.n_kv_head": [1, 3]},
        sampler="grid",
        set=SHORT,
        trials=None,
    )
    process = start(tmp_path, data, "--jobs", "2")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    rows = read_trials(tmp_path)
    assert [row["state"] for row in rows] == ["complete", "failed", "failed", "failed"]
    assert "must be a multiple of n_kv_head" in rows[1]["why"]
    assert "does not fill one row" in rows[2]["why"]
    assert "100000" in rows[2]["why"]
    assert "3 of 4 trials failed:" in output
    assert f"python -m pipeline.sweep.compare {LENGTH}=32 pretrain.model.n_kv_head=1\n" in output
    with (tmp_path / "var/sweep/space/trials.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["heldout_bpb"]) == rows[0]["heldout_bpb"]
    kept = {path.name for path in (tmp_path / "var/sweep/space/trial-0000").iterdir()}
    assert kept == {"params.yaml", "log.txt", "metrics.json", "history.jsonl", "var"}
    complete = json.loads((tmp_path / "var/sweep/space/trials.json").read_text())[0]
    assert complete["train_seconds"] > 0, "read from the trial's var/timings"
    assert complete["tokens_per_second"] > 0, "read from the trial's var/timings"
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml", "params.yaml", "var"}


@pytest.mark.slow
def test_killed_and_restarted_sweep_has_the_same_trials(data: Path, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        write_space(tmp_path / name)
    whole = start(tmp_path / "whole", data)
    assert whole.communicate()[0]
    assert whole.returncode == 0
    process = start(tmp_path / "killed", data)
    wait_for(tmp_path / "killed/var/sweep/space/trial-0001/log.txt", process)
    second = start(tmp_path / "killed", data)
    assert "is in use by another sweep" in second.communicate()[0]
    assert second.returncode == 1
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(children, timeout=20)
    assert not [child for child in children if is_alive(child)]
    again = start(tmp_path / "killed", data)
    output = again.communicate()[0]
    assert again.returncode == 0
    assert "trial 0 " not in output
    assert read_trials(tmp_path / "killed") == read_trials(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_no_process(number: signal.Signals, code: int, data: Path, tmp_path: Path) -> None:
    write_space(tmp_path, set=SHORT | {LENGTH: 32, "pretrain.training.total_steps": 100_000})
    process = start(tmp_path, data, "--jobs", "2")
    wait_for(tmp_path / "var/sweep/space/trial-0001/log.txt", process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    output = process.communicate()[0]
    assert process.returncode == code, output
    assert "Traceback" not in output
    psutil.wait_procs(children, timeout=20)  # a trial that was just being started dies with its parent
    assert not [child for child in children if is_alive(child)]


def test_missing_inputs_are_reported(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.sweep.__main__ import main

    write_space(tmp_path)
    here = [str(tmp_path / "space.yaml"), "--params", str(tmp_path / "params.yaml")]
    assert main([*here, "--shards", "nowhere", "--tokenizer", str(data / "tokenizer")]) == 1
    assert "--shards is missing" in capsys.readouterr().err
    write_space(tmp_path, space={"pretrain.training.matrx_lr": [0.1]})
    assert main([*here, "--shards", str(data / "shard"), "--tokenizer", str(data / "tokenizer")]) == 1
    assert "pretrain.training.matrx_lr" in capsys.readouterr().err


def test_missing_optuna_is_reported(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.sweep.__main__ import main

    write_space(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "pipeline.sweep.study")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["space.yaml", "--shards", str(data / "shard"), "--tokenizer", str(data / "tokenizer")]) == 1
    assert '".[sweep]"' in capsys.readouterr().err


def test_table_and_command() -> None:
    search = Sweep.model_validate({"space": {RATE: [0.001, 0.01], "pretrain.training.spikes": [None]}})
    rows = [
        TrialRow(1, "complete", 1.25, {RATE: 0.01, "pretrain.training.spikes": None}, {"train_seconds": 9.6}),
        TrialRow(0, "complete", 1.5, {RATE: 0.001, "pretrain.training.spikes": None}, {}),
        TrialRow(2, "failed", None, {RATE: 0.001, "pretrain.training.spikes": None}, {"why": "a [b] c"}),
    ]
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    print_trials(console, search, rows, {RATE: 0.001, "pretrain.training.spikes": None})
    console.file.close()
    text = console.export_text()
    assert "-0.2500" in text
    assert "a [b] c" in text
    assert "params" in text
    assert "1 of 3 trials failed" in text
    assert (
        format_command(rows[0].values) == f"python -m pipeline.sweep.compare {RATE}=0.01 pretrain.training.spikes=null"
    )
