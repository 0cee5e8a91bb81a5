"""The pretrain stage: the loss falls, impossible inputs are rejected, and a killed run ends like an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.network.folder import load_model
from pipeline.frame.errors import UserError
from pipeline.params import load_params
from pipeline.pretrain.stage import run
from tests.conftest import ROOT, run_command, stage_commands


def test_loss_falls_and_the_model_folder_is_complete(finished_workspace: Path) -> None:
    model, tokenizer, about = load_model(finished_workspace / "data/pretrain")
    history = [
        json.loads(line) for line in (finished_workspace / "data/pretrain/history.jsonl").read_text().splitlines()
    ]
    assert about["phase"] == "pretrain"
    assert model.config.vocab_size >= tokenizer.vocab_size
    assert history[-1]["loss_nats"] < history[0]["loss_nats"] - 1
    assert "bpb" in history[-1]
    assert not {"seconds", "tokens_per_second"} & history[-1].keys()


def test_corpus_smaller_than_one_row_is_rejected(finished_workspace: Path, tmp_path: Path) -> None:
    params = load_params(finished_workspace / "params.yaml").pretrain
    large = params.model_copy(update={"model": params.model.model_copy(update={"seq_len": 10**6})})
    with pytest.raises(UserError, match="does not fill one row"):
        run(
            large,
            shards=finished_workspace / "data/shard",
            tokenizer=finished_workspace / "data/train_tokenizer",
            scratch=tmp_path,
            out=tmp_path,
        )


def test_shards_of_another_tokenizer_are_rejected(finished_workspace: Path, tmp_path: Path) -> None:
    text = (finished_workspace / "data/train_tokenizer/tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text + "\n")
    with pytest.raises(UserError, match="another tokenizer"):
        run(
            load_params(finished_workspace / "params.yaml").pretrain,
            shards=finished_workspace / "data/shard",
            tokenizer=tmp_path,
            scratch=tmp_path,
            out=tmp_path,
        )


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "n_kills"), [("pretrain", 2), ("sft", 1)])
def test_sigkill_and_restart_give_the_same_weights(
    stage: str, n_kills: int, finished_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real process is killed during training, once or twice; scratch/ is beside the data of the workspace."""
    (tmp_path / "data").symlink_to(finished_workspace / "data")
    (tmp_path / "params.yaml").write_bytes((finished_workspace / "params.yaml").read_bytes())
    argv = stage_commands()[stage]
    out = tmp_path / "out" / stage
    argv[argv.index("--out") + 1], argv[argv.index("--metrics") + 1] = str(out), str(tmp_path / "out" / "metrics.json")
    settings = {"MINIGPT_COMPILE": "0", "MINIGPT_CHECKPOINT_SECONDS": "0.2"}
    env = {**os.environ, **settings, "PYTHONPATH": str(ROOT), "MINIGPT_PROCESSES": "1"}
    command = [sys.executable, "-m", "pipeline", *argv]
    for n_checkpoints in range(1, n_kills + 1):
        with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL) as child:
            names_seen: set[str] = set()
            while len(names_seen) < n_checkpoints and child.poll() is None:
                names_seen |= {path.name for path in tmp_path.glob("scratch/*/*/checkpoints/step-*")}
                time.sleep(0.02)
            child.kill()
        assert not out.exists()
    assert run_command(tmp_path, argv, **settings) == 0
    assert "continuing after step" in capsys.readouterr().out
    names = ["model.safetensors", "history.jsonl"]
    digests = [
        [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
        for folder in (out, finished_workspace / "data" / stage)
    ]
    assert digests[0] == digests[1]
    assert not (tmp_path / "scratch" / stage).exists()
