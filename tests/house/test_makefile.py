"""What make does around the commands: a moved .venv is mended without the network; results of a run do not make Git dirty."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKS = ("requirements.lock",)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, and a .venv with one script in which everything is installed."""
    folder = tmp_path / "first"
    folder.mkdir()
    for name in ("Makefile", *LOCKS):
        shutil.copy(ROOT / name, folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True)
    for name in LOCKS:
        shutil.copy(folder / name, folder / ".venv")
    script = folder / ".venv/bin/where"
    script.write_text(f"#!{folder}/.venv/bin/python\nimport sys\nprint(sys.prefix)\n")
    script.chmod(0o755)
    return folder


def install(folder: Path) -> str:
    """Run `make install`; return what it printed and what a script of .venv takes for its .venv."""
    made = subprocess.run(["make", "install"], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    script = subprocess.run([folder / ".venv/bin/where"], capture_output=True, text=True, check=True)
    return made.stdout + script.stdout


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_venv_that_was_moved_or_copied_is_mended(workspace: Path, tmp_path: Path, is_moved: bool) -> None:
    assert install(workspace) == f"{workspace}/.venv\n"
    second = tmp_path / "deeper/second"
    if is_moved:
        second.parent.mkdir()
        workspace.rename(second)
    else:
        shutil.copytree(workspace, second, symlinks=True)
    assert install(second) == f"mending .venv: it was made in {workspace}/.venv\n{second}/.venv\n"
    assert install(second) == f"{second}/.venv\n"
    assert str(workspace) not in (second / ".venv/bin/activate").read_text()
    if not is_moved:
        assert install(workspace) == f"{workspace}/.venv\n"


RUN = """#!/bin/sh
[ "$*" = "-m flows retrain" ] || exec {python} "$@"
echo "new: $(date +%N) and longer than before" | tee dvc.lock > data/metrics/sft.json
exit 3
"""


def git(folder: Path, *arguments: str) -> str:
    """Run a Git command as a person of no particular settings."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    person = ("-c", "user.name=n", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *person, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def clone(workspace: Path) -> Path:
    """Return a repository with committed results, in which a run writes others and then fails."""
    shutil.copy(ROOT / ".gitattributes", workspace)
    (workspace / "data/metrics").mkdir(parents=True)
    for name in ("dvc.lock", "data/metrics/sft.json"):
        (workspace / name).write_text("old\n")
    (workspace / ".gitignore").write_text(".venv\n")
    python = workspace / ".venv/bin/python"
    real = python.resolve()
    python.unlink()
    python.write_text(RUN.format(python=real))
    python.chmod(0o755)
    git(workspace, "init", "-q")
    git(workspace, "add", ".")
    git(workspace, "commit", "-qm", "results of another machine")
    return workspace


def run_pipeline(folder: Path) -> str:
    """Run `make run`, which must pass on the failure; return the new dvc.lock."""
    made = subprocess.run(["make", "run"], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert "Error 3" in made.stderr
    return (folder / "dvc.lock").read_text()


def test_git_is_clean_after_a_run_and_history_keeps_its_lock(clone: Path, tmp_path: Path) -> None:
    for _ in range(2):
        lock = run_pipeline(clone)
        assert lock.startswith("new")
        assert git(clone, "status", "--porcelain") == git(clone, "diff", "HEAD") == ""
    git(clone, "commit", "-q", "--allow-empty", "-am", "another change")
    assert git(clone, "show", "HEAD:dvc.lock") == "old\n"
    assert (clone / "dvc.lock").read_text() == lock

    upstream = tmp_path / "upstream"
    git(tmp_path, "clone", "-q", str(clone), str(upstream))
    (upstream / "dvc.lock").write_text("upstream's\n")
    git(upstream, "commit", "-qam", "other results")
    git(clone, "pull", "-q", str(upstream))
    assert (clone / "dvc.lock").read_text() == "upstream's\n"
    assert git(clone, "status", "--porcelain") == ""


def test_a_team_commits_its_results(clone: Path) -> None:
    run_pipeline(clone)
    git(clone, "rm", "-q", ".gitattributes")
    lock = run_pipeline(clone)
    assert git(clone, "status", "--porcelain").split() == [
        "D",
        ".gitattributes",
        "M",
        "data/metrics/sft.json",
        "M",
        "dvc.lock",
    ]
    git(clone, "commit", "-qam", "our results")
    assert git(clone, "show", "HEAD:dvc.lock") == lock


def test_one_result_is_committed_by_the_documented_command(clone: Path) -> None:
    lock = run_pipeline(clone)
    (command,) = re.findall(r"^git (-c filter.*)$", (ROOT / "docs/results.md").read_text(), re.MULTILINE)
    git(clone, *command.partition("  #")[0].split())
    git(clone, "commit", "-qm", "the results of this machine")
    assert git(clone, "show", "HEAD:dvc.lock") == git(clone, "show", "HEAD:data/metrics/sft.json") == lock


def test_without_git_the_pipeline_runs(clone: Path) -> None:
    shutil.rmtree(clone / ".git")
    assert run_pipeline(clone).startswith("new")
