"""`make run` leaves Git clean, whatever it wrote or deleted, and however it ended (docs/results.md)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@b.c")


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("ending", ["exit 0", "exit 130", "kill -INT $PPID; sleep 0.2; exit 130"])
def test_a_run_leaves_git_clean(ending: str, tmp_path: Path) -> None:
    for name in ("Makefile", ".gitattributes"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data/metrics").mkdir(parents=True)
    for name in ("dvc.lock", "data/metrics/old.json", "data/metrics/new.json"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / ".gitignore").write_text(".venv\n")
    run(tmp_path, *GIT, "init", "-q")
    run(tmp_path, *GIT, "add", "-A")
    run(tmp_path, *GIT, "commit", "-q", "-m", "x")
    stages = (
        tmp_path / ".venv/bin/python"
    )  # writes results, and is interrupted in a stage whose metrics DVC has deleted
    stages.parent.mkdir(parents=True)
    stages.write_text(
        f"#!/bin/sh\necho mine > dvc.lock; echo 1 > data/metrics/new.json; rm data/metrics/old.json\n{ending}\n"
    )
    stages.chmod(0o755)
    done = subprocess.run(["make", "-o", "install", "run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (ending == "exit 0"), done.stderr
    assert run(tmp_path, "git", "status", "--porcelain") == ""
    assert (tmp_path / "data/metrics/new.json").read_text() == "1\n", "the results stay"
    assert (tmp_path / "data/metrics/old.json").exists()
