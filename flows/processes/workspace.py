"""One run at a time in a workspace: a lock on var/retrain.lock that frees itself when its holder dies, however it dies.

In: the repository's root. Out: a held lock whose descriptor the children's guards inherit, so that it stays held until the
last stage of a killed run has really ended. It does not guard against a `dvc repro` by hand: DVC's own lock does.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator
from pathlib import Path

from filelock import lock_descriptor

LOCK = Path("var/retrain.lock")
DYING_SECONDS = 20.0  # how long the stages of a killed run may take to end
_held: dict[Path, int] = {}


class WorkspaceBusyError(RuntimeError):
    """Another run holds the workspace."""


@contextlib.contextmanager
def hold(root: Path) -> Generator[int]:
    """Holds the workspace and gives the lock's file descriptor; holding it twice in one process is holding it once."""
    path = (root / LOCK).resolve()
    if path in _held:
        yield _held[path]
        return
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        _held[path] = descriptor
        yield descriptor
    finally:
        _held.pop(path, None)
        os.close(descriptor)


def _acquire(descriptor: int) -> None:
    until = time.monotonic() + DYING_SECONDS
    while not lock_descriptor(descriptor, blocking=False):
        holder = os.pread(descriptor, 32, 0).decode().strip()
        if _is_alive(holder) or time.monotonic() > until:
            raise WorkspaceBusyError(_refusal(holder))
        time.sleep(0.2)


def _refusal(holder: str) -> str:
    return (
        f"another run is at work in this workspace\n  found: process {holder or 'unknown'}, which holds {LOCK}\n"
        f"  to do: wait for it, or stop it with `kill {holder or 'PID'}`, then try again"
    )


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
