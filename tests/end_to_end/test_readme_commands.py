"""A newcomer's first hour: after one run, every command of the README works, in the README's order."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.end_to_end.test_registry_flow import RealRepo
from tests.house.test_readme import LINES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# What the tests' corpus documents; and the stages after filter are run in a copy by no test, because that takes a minute.
HERE = {"numpy.linalg.norm": "prompt_toolkit.prompt", "sweep.compare": "sweep.compare --stage filter"}


def test_the_commands_of_the_readme_work_after_a_run_in_their_order(finished_workspace: Path, tmp_path: Path) -> None:
    repo = RealRepo(tmp_path / "repo", finished_workspace)
    shutil.copytree(ROOT / "docs", repo.root / "docs")
    for command in ("publish", "gate", "promote"):
        repo.registry(command)
    params = (repo.root / "params.yaml").read_bytes()
    environment = repo.environment() | {"MINIGPT_COMPILE": "0"}
    commands = [line for line in LINES if not line.startswith("make ")]
    assert len(commands) >= 10
    for line in commands:
        assert (repo.root / "params.yaml").read_bytes() == params, "changed by the command before"
        for name, other in HERE.items():
            line = line.replace(name, other)
        done = subprocess.run(
            ["sh", "-c", line], cwd=repo.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, line
    assert (repo.root / "params.yaml").read_bytes() == (ROOT / "docs/recipes/gutenberg.yaml").read_bytes()
    assert list((repo.root / "var/trials").iterdir())
