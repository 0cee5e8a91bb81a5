"""Run a command as a child process that can't be orphaned: stream its output; terminate it when this process exits.

In: a command, the environment, a function that is called with each line. Out: the exit code and the last lines. Any exception
here (Ctrl-C, SIGTERM, a canceled flow) terminates the child and all its descendants before it propagates; kill -9 of this
process does the same through the guard (see guard.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

GUARD = Path(__file__).parent / "guard.py"
KEPT_LINES = 200


@dataclass(frozen=True)
class Finished:
    """The exit code of a command, and the last lines of its output."""

    code: int
    lines: list[str]


def start(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    output: int | IO[str],
    keep: Sequence[int] = (),
    stop_signal: str = "SIGINT",
) -> subprocess.Popen[str]:
    """Start the command under its guard, in a new session. `keep`: file descriptors that the guard inherits and keeps open."""
    process = subprocess.Popen(
        [sys.executable, str(GUARD), stop_signal, *command],
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=keep,
    )
    threading.Thread(target=_kill_group_without_guard, args=(process,), daemon=True).start()
    return process


def _kill_group_without_guard(process: subprocess.Popen[str]) -> None:
    """Kill the process group if the guard itself was killed (by a user, or for lack of memory)."""
    if process.wait() < 0:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    keep: Sequence[int] = (),
) -> Finished:
    """Run the command to completion, calling `on_line` with every line of its output as it comes."""
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    process = start(command, cwd=cwd, environment=environment, output=subprocess.PIPE, keep=keep)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            on_line(lines[-1])
        return Finished(process.wait(), list(lines))
    finally:
        stop(process, on_line)


def stop(process: subprocess.Popen[str], on_line: Callable[[str], None] | None = None) -> None:
    """Stop a child and all its descendants; pass what they still print to `on_line`. A second Ctrl-C kills at once."""
    drain = threading.Thread(target=_drain, args=(process, on_line), daemon=True)
    try:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        drain.start()  # a child whose pipe is full can't exit
        process.wait()
    finally:
        if process.poll() is None:
            _kill_group(process)
            process.wait()
    drain.join(1.0)  # longer only if a killed guard left a process that holds the pipe
    if process.stdout is not None and not drain.is_alive():
        process.stdout.close()


def _drain(process: subprocess.Popen[str], on_line: Callable[[str], None] | None) -> None:
    for line in process.stdout or ():
        if on_line is not None:
            on_line(line.rstrip())


def make_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with this Python's folder first on the PATH, so that `dvc` and `python` work without an activated venv."""
    path = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [base.get("PATH")])])
    return {**base, "PATH": path, "PYTHONUNBUFFERED": "1"}
