"""A guarded command never outlives its caller; the tests list processes to check that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.processes import child

# Starts a grandchild in a session of its own, as torchrun does, and one in the same session; both ignore SIGINT and SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; print('up', flush=True); time.sleep(60)"
pids = [os.getpid()]
for is_apart in (True, False):
    child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=is_apart, stdout=subprocess.PIPE)
    child.stdout.readline()
    pids.append(child.pid)
open(sys.argv[1], "w").write(" ".join(map(str, pids)) + "\\n")
time.sleep(60)
"""
CALLER = """
import os, pathlib, sys, time
from flows.processes import child
child.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], cwd=pathlib.Path.cwd(), environment=os.environ, on_line=print)
"""


def read_pids(path: Path) -> list[int]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return [int(pid) for pid in text.split()]
        time.sleep(0.02)
    pytest.fail("the processes did not start")


def assert_gone(pids: list[int], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until, [pid for pid in pids if is_alive(pid)]
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start(*command: str) -> subprocess.Popen[str]:
    return child.start(command, cwd=Path.cwd(), environment=os.environ, output=subprocess.PIPE)


@pytest.mark.parametrize(
    ("code", "wanted"), [("exit(0)", 0), ("exit(75)", 75), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_exit_code_and_output_are_passed_on(code: str, wanted: int) -> None:
    lines: list[str] = []
    command = [sys.executable, "-c", f"print('one\\rtwo'); import sys; print('grün', file=sys.stderr); {code}"]
    done = child.run(command, cwd=Path.cwd(), environment=child.make_environment(os.environ), on_line=lines.append)
    assert done.code == wanted
    assert sorted(lines) == sorted(done.lines) == ["grün", "one", "two"] or wanted == 137


def test_a_missing_command_has_exit_code_127(tmp_path: Path) -> None:
    done = child.run([str(tmp_path / "no")], cwd=tmp_path, environment=os.environ, on_line=lambda _line: None)
    assert done.code == 127
    assert "No such file" in done.lines[-1]


def test_this_python_is_first_on_the_path() -> None:
    environment = child.make_environment({"PATH": "/usr/bin", "OTHER": "1"})
    assert environment["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert environment["OTHER"] == "1"


def test_a_stage_is_interrupted_first_and_its_last_output_is_kept() -> None:
    """SIGINT is sent before SIGTERM; what the stage prints while it stops is passed on."""
    code = "import time\nprint('up', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('saved', flush=True)"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line == "up":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.run([sys.executable, "-c", code], cwd=Path.cwd(), environment=os.environ, on_line=on_line)
    assert lines == ["up", "saved"]


def test_processes_left_by_a_finished_command_are_killed(tmp_path: Path) -> None:
    code = FAMILY.removesuffix("time.sleep(60)\n")
    done = child.run(
        [sys.executable, "-c", code, str(tmp_path / "pids")], cwd=tmp_path, environment=os.environ, on_line=print
    )
    assert done.code == 0
    assert_gone(read_pids(tmp_path / "pids"))


@pytest.mark.parametrize("way", ["caller killed", "guard terminated", "guard killed"])
def test_all_descendants_are_killed(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_STOP_SECONDS", "0.3")
    path = tmp_path / "pids"
    if way == "caller killed":
        with subprocess.Popen([sys.executable, "-c", CALLER, FAMILY, str(path)]) as caller:
            pids = read_pids(path)
            caller.kill()
        assert_gone(pids)
        return
    process = start(sys.executable, "-c", FAMILY, str(path))
    pids = read_pids(path)
    process.send_signal(signal.SIGTERM if way == "guard terminated" else signal.SIGKILL)
    child.stop(process)
    in_group = [pids[0], pids[2]]  # a killed guard can't reach a process in another session
    assert_gone(pids if way == "guard terminated" else in_group)
    if way == "guard killed":
        os.kill(pids[1], signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()
