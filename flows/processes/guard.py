"""python flows/processes/guard.py SIGINT|SIGTERM COMMAND ...: runs a command that never outlives whoever asked for it.

In: the signal that asks this command to end, the command; standard input, a pipe whose other end only the asker holds.
Out: the command's output and exit code. When that pipe closes (the asker wants an end, or died, by kill -9 too) or a
SIGTERM comes, all that the command has started is ended: first asked, then told (SIGTERM), then killed.

Covers, on Linux: grandchildren and children in sessions of their own (the guard adopts orphans). Elsewhere: the process
group. Does not cover: a kill -9 of the guard itself, for which its asker kills the group, and not what left that group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

STOP_SECONDS = 8.0  # or MINIGPT_STOP_SECONDS: for a stage to end when it is asked, and half of it when it is told
PR_SET_CHILD_SUBREAPER = 36


def main(ask: signal.Signals, command: list[str]) -> int:
    """The command's exit code, 128 + signal if it died of one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    is_wanted = threading.Event()
    # A handler, not SIG_IGN: an ignored SIGINT would be inherited, and the stage could not be asked to stop.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: is_wanted.set())
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return 127
    threading.Thread(target=_wait_for_end_of_input, args=(is_wanted,), daemon=True).start()
    while child.poll() is None and not is_wanted.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
    if child.poll() is None:
        seconds = float(os.environ.get("MINIGPT_STOP_SECONDS", STOP_SECONDS))
        _signal_all(ask)
        if not _is_over(child, seconds):
            _signal_all(signal.SIGTERM)
            _is_over(child, seconds / 2)
    _kill_leftovers()
    code = child.wait()
    return 128 - code if code < 0 else code


def _wait_for_end_of_input(is_wanted: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    is_wanted.set()


def _signal_all(number: int) -> None:
    """Every descendant, wherever it hides; not the guard itself."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _is_over(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the command and all that it started ended in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if child.poll() is not None and not _living():
            return True
        time.sleep(0.05)
    return False


def _living() -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _kill_leftovers() -> None:
    """What still runs, or what a finished command left behind."""
    until = time.monotonic() + STOP_SECONDS
    while (living := _living()) and time.monotonic() < until:
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(signal.Signals[sys.argv[1]], sys.argv[2:]))
