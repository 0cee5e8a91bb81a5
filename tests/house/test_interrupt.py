"""Ctrl-C at any moment ends a command without a traceback, also while its modules are being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

STUB = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"


@pytest.mark.parametrize(
    ("package", "library"), [("pipeline", "pydantic"), ("assistant", "numpy"), ("flows", "filelock")]
)
def test_ctrl_c_during_the_imports_prints_no_traceback(package: str, library: str, tmp_path: Path) -> None:
    """A library that the package needs is replaced by a module that sends the signal when it is imported."""
    (tmp_path / f"{library}.py").write_text(STUB)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", package, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
