"""Check that locks exclude others, name their holder, and end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.frame.locks import lock_folder, try_lock, wait_lock
from tests.conftest import ROOT

HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from pipeline.frame.locks import lock_folder, try_lock
with try_lock(Path("lock"), "busy"):
    folder = lock_folder(Path.cwd())
    if sys.argv[1] == "fork" and os.fork() == 0:
        os.close(folder)
        print(os.getpid(), flush=True)
        time.sleep(60)
    if sys.argv[1] == "exec":
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False).pid, flush=True)
    if sys.argv[1] == "alone":
        print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, kind: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process that holds the lock file and the folder. Yield it and the line that it printed."""
    command = [sys.executable, "-c", HOLDER, kind]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_which_one_holds_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path, "alone") as (process, _):
        with pytest.raises(UserError, match=f"busy\n  found: process {process.pid} holds .*\n  to do: wait"):
            try_lock(tmp_path / "lock", "busy").__enter__()
        assert lock_folder(tmp_path) is None


def test_a_killed_holder_frees_its_locks(tmp_path: Path) -> None:
    with holder(tmp_path, "alone") as (process, _):
        process.kill()
        process.wait()
        assert (tmp_path / "lock").read_text() == f"{process.pid}\n"
        with try_lock(tmp_path / "lock", "busy"):
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        descriptor = lock_folder(tmp_path)
        assert descriptor is not None
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["fork", "exec"])
def test_a_child_that_outlives_the_holder_does_not_keep_its_locks(tmp_path: Path, kind: str) -> None:
    with holder(tmp_path, kind) as (process, child):
        process.kill()
        process.wait()
        try:
            os.kill(int(child), 0)
            with try_lock(tmp_path / "lock", "busy"):
                pass
            descriptor = lock_folder(tmp_path)
            assert descriptor is not None
            os.close(descriptor)
        finally:
            os.kill(int(child), 9)


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), try_lock(path, "busy"):
            raise ZeroDivisionError
    assert path.read_bytes() == b""


def test_waiting_prints_one_message_and_pauses_until_the_lock_is_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, pauses = tmp_path / "lock", list[float]()
    with wait_lock(path, "waiting"):
        pass
    assert capsys.readouterr().err == ""
    with holder(tmp_path, "alone") as (process, _):

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                process.kill()
                process.wait()

        with wait_lock(path, "waiting", pause):
            assert len(pauses) >= 3
    assert capsys.readouterr().err == "waiting\n"


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with wait_lock(tmp_path / "lock", pause=lambda _: time.sleep(0.001)):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_pause_that_raises_ends_the_wait(tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with holder(tmp_path, "alone"), pytest.raises(KeyboardInterrupt):
        wait_lock(tmp_path / "lock", pause=stop).__enter__()


def test_a_folder_that_was_renamed_meanwhile_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "partial"
    folder.mkdir()
    open_folder = os.open

    def open_and_rename(path: Path, flags: int) -> int:
        descriptor = open_folder(path, flags)
        path.rename(tmp_path / "final")
        return descriptor

    monkeypatch.setattr("pipeline.frame.locks.os.open", open_and_rename)
    assert lock_folder(folder) is None
