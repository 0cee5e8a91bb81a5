"""A command as a child that can't be orphaned: its lines one by one while it runs, its end when ours comes.

In: a command, the environment, a function that takes each line. Out: the exit code and the last lines. Any exception in
here (Ctrl-C, SIGTERM, a cancelled flow) ends the child and all that it started before it goes on; kill -9 of this process
does the same through the guard (see guard.py).
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
    """How a command ended; `lines` are its last ones."""

    code: int
    lines: list[str]


def start(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    output: int | IO[str],
    keep: Sequence[int] = (),
    ask: str = "SIGINT",
) -> subprocess.Popen[str]:
    """The command under its guard, in a session of its own. `keep`: file descriptors that the guard holds on to."""
    process = subprocess.Popen(
        [sys.executable, str(GUARD), ask, *command],
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
    threading.Thread(target=_end_group_without_guard, args=(process,), daemon=True).start()
    return process


def _end_group_without_guard(process: subprocess.Popen[str]) -> None:
    """Somebody killed the guard itself (or there is no memory left): its group must not go on alone."""
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
    say: Callable[[str], None],
    keep: Sequence[int] = (),
) -> Finished:
    """Runs the command to its end; `say` gets every line as it comes."""
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    process = start(command, cwd=cwd, environment=environment, output=subprocess.PIPE, keep=keep)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            say(lines[-1])
        return Finished(process.wait(), list(lines))
    finally:
        stop(process, say)


def stop(process: subprocess.Popen[str], say: Callable[[str], None] | None = None) -> None:
    """Ends a child and all that it started; whatever it still prints goes to `say`. A second Ctrl-C kills at once."""
    drain = threading.Thread(target=_pass_on, args=(process, say), daemon=True)
    try:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        drain.start()  # a child that can't write can't end
        process.wait()
    finally:
        if process.poll() is None:
            _kill_group(process)
            process.wait()
    drain.join(1.0)  # longer only where a killed guard left somebody behind who holds the pipe
    if process.stdout is not None and not drain.is_alive():
        process.stdout.close()


def _pass_on(process: subprocess.Popen[str], say: Callable[[str], None] | None) -> None:
    for line in process.stdout or ():
        if say is not None:
            say(line.rstrip())


def environment_of(base: Mapping[str, str]) -> dict[str, str]:
    """`base` with this Python's folder first on the PATH, so that `dvc` and `python` are ours without an activated venv."""
    path = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [base.get("PATH")])])
    return {**base, "PATH": path, "PYTHONUNBUFFERED": "1"}
