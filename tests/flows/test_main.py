"""`python -m flows` before any server starts: usage, the wrong folder, a busy workspace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.__main__ import main
from flows.processes.workspace import hold
from tests.conftest import ROOT


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_invalid_arguments_print_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["fly"], ["retrain", "--fast"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert "usage: python -m flows" in capsys.readouterr().err


def test_outside_the_repository_nothing_is_written(tmp_path: Path) -> None:
    process = run(tmp_path, "retrain")
    assert (process.returncode, "to do: run in the repository's root" in process.stderr) == (1, True)
    assert not list(tmp_path.iterdir())


def test_a_busy_workspace_is_refused_before_a_server_starts(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with hold(tmp_path):
        process = run(tmp_path, "retrain")
    assert process.returncode == 1
    assert process.stderr.startswith("error: another run is using this workspace\n  found: process ")
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "var/prefect").exists()
