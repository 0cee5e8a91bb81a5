"""A guarded command never outlives whoever asked for it; ends are checked by listing processes."""

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

# Starts a grandchild in a session of its own, as torchrun does, and one that ignores requests to stop.
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
ASKER = """
import os, pathlib, sys, time
from flows import child
child.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], cwd=pathlib.Path.cwd(), environment=os.environ, say=print)
"""


def pids_in(path: Path) -> list[int]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text()).endswith("\n"):
            return [int(pid) for pid in text.split()]
        time.sleep(0.02)
    pytest.fail("the family never came up")


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
def test_exit_codes_and_lines_come_through(code: str, wanted: int) -> None:
    said: list[str] = []
    command = [sys.executable, "-c", f"print('one\\rtwo'); import sys; print('grün', file=sys.stderr); {code}"]
    done = child.run(command, cwd=Path.cwd(), environment=child.environment_of(os.environ), say=said.append)
    assert done.code == wanted
    assert sorted(said) == sorted(done.lines) == ["grün", "one", "two"] or wanted == 137


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    done = child.run([str(tmp_path / "no")], cwd=tmp_path, environment=os.environ, say=lambda _line: None)
    assert done.code == 127
    assert "No such file" in done.lines[-1]


def test_this_python_comes_first_on_the_path() -> None:
    environment = child.environment_of({"PATH": "/usr/bin", "OTHER": "1"})
    assert environment["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert environment["OTHER"] == "1"


def test_a_stage_is_asked_first_and_keeps_its_last_words() -> None:
    """SIGINT before anything harder; what it prints on its way out is still passed on."""
    code = "import time\nprint('up', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('saved', flush=True)"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line == "up":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.run([sys.executable, "-c", code], cwd=Path.cwd(), environment=os.environ, say=say)
    assert said == ["up", "saved"]


def test_what_a_finished_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    code = FAMILY.removesuffix("time.sleep(60)\n")
    done = child.run(
        [sys.executable, "-c", code, str(tmp_path / "pids")], cwd=tmp_path, environment=os.environ, say=print
    )
    assert done.code == 0
    assert_gone(pids_in(tmp_path / "pids"))


@pytest.mark.parametrize("way", ["asker killed", "guard terminated", "guard killed"])
def test_the_whole_family_ends(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_STOP_SECONDS", "0.3")
    path = tmp_path / "pids"
    if way == "asker killed":
        with subprocess.Popen([sys.executable, "-c", ASKER, FAMILY, str(path)]) as asker:
            pids = pids_in(path)
            asker.kill()
        assert_gone(pids)
        return
    process = start(sys.executable, "-c", FAMILY, str(path))
    pids = pids_in(path)
    process.send_signal(signal.SIGTERM if way == "guard terminated" else signal.SIGKILL)
    child.stop(process)
    in_group = [pids[0], pids[2]]  # a guard that is killed can't reach what is in a session of its own
    assert_gone(pids if way == "guard terminated" else in_group)
    if way == "guard killed":
        os.kill(pids[1], signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()
