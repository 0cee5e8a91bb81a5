"""python flows/processes/guard.py SIGINT|SIGTERM COMMAND ...: run a command that never outlives its caller.

In: the signal that asks this command to stop, the command; standard input, a pipe whose other end only the caller holds.
Out: the command's output and exit code. When that pipe closes (the caller wants to stop, or died, even by kill -9) or a
SIGTERM arrives, the command and all its descendants get the given signal, then SIGTERM, then SIGKILL.

Covers, on Linux: grandchildren, and children in sessions of their own (the guard adopts orphans). Elsewhere: the process
group. Does not cover: a kill -9 of the guard itself; its caller then kills the group, but not processes that left it.
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

STOP_SECONDS = 8.0  # or MINIGPT_STOP_SECONDS: how long a stage may take to stop; after SIGTERM, half of it
PR_SET_CHILD_SUBREAPER = 36


def main(stop_signal: signal.Signals, command: list[str]) -> int:
    """Run the command and return its exit code, or 128 + signal if a signal killed it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    is_stopping = threading.Event()
    # A handler, not SIG_IGN: an ignored SIGINT would be inherited, and the stage could not be interrupted.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: is_stopping.set())
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)
        return 127
    threading.Thread(target=_wait_for_end_of_input, args=(is_stopping,), daemon=True).start()
    while child.poll() is None and not is_stopping.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
    if child.poll() is None:
        seconds = float(os.environ.get("MINIGPT_STOP_SECONDS", STOP_SECONDS))
        _signal_all(stop_signal)
        if not _wait_for_exit(child, seconds):
            _signal_all(signal.SIGTERM)
            _wait_for_exit(child, seconds / 2)
    _kill_leftovers()
    code = child.wait()
    return 128 - code if code < 0 else code


def _wait_for_end_of_input(is_stopping: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    is_stopping.set()


def _signal_all(number: int) -> None:
    """Send a signal to every descendant, whatever its session; not to the guard itself."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _wait_for_exit(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Return whether the command and all its descendants exited in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if child.poll() is not None and not _list_living():
            return True
        time.sleep(0.05)
    return False


def _list_living() -> list[psutil.Process]:
    living: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def _kill_leftovers() -> None:
    """Kill every descendant that is still running, including what a finished command left behind."""
    until = time.monotonic() + STOP_SECONDS
    while (living := _list_living()) and time.monotonic() < until:
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(signal.Signals[sys.argv[1]], sys.argv[2:]))
