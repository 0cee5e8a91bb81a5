"""Kill a stage that does not end within seconds of SIGTERM or Ctrl-C, whatever code it is in.

Python runs signal handlers between two instructions of the main thread, so a stage inside native code (training in `tokenizers`,
a compiled loop, a pool that waits for its workers) notices a signal only when that returns. But Python's C handler writes the
number of each signal to a descriptor at once (`signal.set_wakeup_fd`), even while the interpreter lock is held. Another process,
this file run as a script, waits at the other end of that pipe: it kills the stage and its descendants, and removes the half-written
folder, as the stage would have done itself. Cost: one small process per stage, 30 ms of processor time.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def watch_signals(stage: str, partial: Path, seconds: float) -> Generator[None]:
    """Kill this process if it is still running `seconds` after SIGTERM or SIGINT arrived in the block, and remove `partial`."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    command = [sys.executable, "-P", __file__, stage, str(partial.absolute()), str(seconds)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # inherited: Ctrl-C goes to the whole group
    try:
        watcher = subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reader)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    is_stopping = False
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        is_stopping = True  # the rest of this process is watched too: the end of the interpreter waits for threads
        raise
    finally:
        if not is_stopping:
            signal.set_wakeup_fd(previous)
            watcher.kill()
            watcher.wait()
            os.close(writer)


def wait_for_signal(descriptor: int) -> signal.Signals | None:
    """Return the first of `STOPPING` that is written to a pipe, or None when the pipe is closed before."""
    while number := os.read(descriptor, 1):
        if number[0] in STOPPING:
            return signal.Signals(number[0])
    return None


def wait_for_end(descriptor: int, seconds: float) -> bool:
    """Return whether the other end of a pipe is closed within `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0] and not os.read(descriptor, 4096):
            return True
    return False


def kill_tree(pid: int) -> None:
    """Kill a process, then its descendants, except for this process."""
    import psutil  # not needed by the stages, and by this script in the rarest case only

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        descendants = process.children(recursive=True)
        process.kill()
        for each in descendants:
            with suppress(psutil.NoSuchProcess):
                if each.pid != os.getpid():
                    each.kill()


def remove_folder(folder: Path, seconds: float = 2.0) -> None:
    """Remove a folder that no process has locked, or none after `seconds`: the kernel releases the locks of a killed process one
    after the other. The next run of the same stage may have locked it already (pipeline/frame/locks.py)."""
    deadline = time.monotonic() + seconds
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                return
            time.sleep(0.05)


def main(stage: str, partial: str, seconds: str) -> None:
    """Wait for a signal to the parent process, then for its end; kill it if it does not end."""
    parent = os.getppid()
    number = wait_for_signal(sys.stdin.fileno())
    if number is None or wait_for_end(sys.stdin.fileno(), float(seconds)) or os.getppid() != parent:
        return
    kill_tree(parent)
    remove_folder(Path(partial))
    print(f"{stage}: killed {seconds} s after {number.name}; run it again to resume", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
