"""Allow one run at a time in a workspace: a lock on var/retrain.lock that is released however its holder dies.

In: the repository's root. Out: a lock whose descriptor the children's guards inherit, so that it is held until the last stage of
a killed run has exited. Does not cover: a manual `dvc repro`, which DVC's own lock excludes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator
from pathlib import Path

from filelock import lock_descriptor

LOCK = Path("var/retrain.lock")
DYING_SECONDS = 20.0  # how long the stages of a killed run may take to exit
_held: dict[Path, int] = {}


class WorkspaceBusyError(RuntimeError):
    """Another run holds the workspace."""


@contextlib.contextmanager
def hold(root: Path) -> Generator[int]:
    """Hold the workspace's lock and yield its file descriptor; reentrant within a process. Raises `WorkspaceBusyError`."""
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
            raise WorkspaceBusyError(_describe_holder(holder))
        time.sleep(0.2)


def _describe_holder(holder: str) -> str:
    return (
        f"another run is using this workspace\n  found: process {holder or 'unknown'}, which holds {LOCK}\n"
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
