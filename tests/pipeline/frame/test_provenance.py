"""Flat params and the state of the working tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.frame.provenance import read_flat_params, read_git_state
from tests.conftest import ROOT, read_yaml


def test_params_are_flattened_and_long_values_are_cut(tmp_path: Path) -> None:
    flat = read_flat_params(ROOT / "params.yaml")
    assert flat["train_tokenizer.vocab_size"] == str(read_yaml(ROOT / "params.yaml")["train_tokenizer"]["vocab_size"])
    assert all(isinstance(value, str) and len(value) <= 500 for value in flat.values())
    long = {"list": ["x" * 300, "y" * 300], "lr": 3e-4, "is_on": True, "text": "as it is"}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(long, file)
    flat = read_flat_params(tmp_path / "params.yaml")
    assert (flat["lr"], flat["is_on"], flat["text"]) == ("0.0003", "true", "as it is")
    assert len(flat["list"]) == 500
    assert flat["list"].endswith("…")


def test_git_state_ignores_the_files_that_a_run_writes(tmp_path: Path) -> None:
    assert read_git_state(tmp_path) == {"git_commit": "unknown", "git_is_dirty": "unknown"}

    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "data/metrics").mkdir(parents=True)
    files = [tmp_path / "dvc.lock", tmp_path / "data/metrics/sft.json", tmp_path / "code.py"]
    git("init")
    for file in files:
        file.write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    for file, dirty in zip(files, ("false", "false", "true"), strict=True):
        file.write_text("2")
        assert read_git_state(tmp_path)["git_is_dirty"] == dirty
    assert len(read_git_state(tmp_path)["git_commit"]) == 40
