"""One run at a time: the lock is released however its holder dies, but not before its stages have exited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.processes.workspace import LOCK, WorkspaceBusyError, hold

HOLDER = """
import pathlib, subprocess, sys
from flows.processes.workspace import hold
with hold(pathlib.Path.cwd()) as descriptor:
    if sys.argv[1] == "heir":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"], pass_fds=[descriptor])
    print("held", flush=True)
    sys.stdin.read()
"""


def start(folder: Path, kind: str, root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLDER, kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen(command, cwd=folder, env={"PYTHONPATH": str(root)}, **pipes)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


@pytest.fixture
def root() -> Path:
    return Path(__file__).parents[3]


def test_the_lock_is_reentrant_within_a_process(tmp_path: Path) -> None:
    with hold(tmp_path) as one, hold(tmp_path) as two:
        assert one == two
    with hold(tmp_path):
        pass


def test_a_second_process_is_refused_and_the_holder_is_named(tmp_path: Path, root: Path) -> None:
    with start(tmp_path, "alone", root) as holder:
        with pytest.raises(WorkspaceBusyError, match=rf"process {holder.pid}, which holds {LOCK}"), hold(tmp_path):
            pass
        holder.kill()
    with hold(tmp_path):
        pass


def test_the_stages_of_a_killed_run_are_waited_for(tmp_path: Path, root: Path) -> None:
    with start(tmp_path, "heir", root) as holder:
        holder.kill()
    with hold(tmp_path):
        pass
