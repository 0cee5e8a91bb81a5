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
    return subprocess.Popen(
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
    try:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        if process.stdout is not None:
            for line in process.stdout:
                if say is not None:
                    say(line.rstrip())
        process.wait()
    finally:
        if process.returncode is None or process.returncode < 0:  # no time left, or the guard itself was killed
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def environment_of(base: Mapping[str, str]) -> dict[str, str]:
    """`base` with this Python's folder first on the PATH, so that `dvc` and `python` are ours without an activated venv."""
    path = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [base.get("PATH")])])
    return {**base, "PATH": path, "PYTHONUNBUFFERED": "1"}
