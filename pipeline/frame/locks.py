"""Lock files and folders exclusively between processes. The kernel releases a lock when its holder ends, even after kill -9.

A child process does not inherit locks: descriptors are closed on exec, and filelock closes its own after a fork.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout, lock_descriptor

from pipeline.frame.errors import UserError

POLL_SECONDS = 0.2


@contextmanager
def try_lock(path: Path, what: str, do: str = "wait for it, or stop it") -> Generator[None]:
    """Hold the lock on the file `path`. Raises `UserError(what, …, do)` that names the holder if another process has it."""
    lock = _make_file_lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        holder = path.read_text(encoding="utf-8").strip()
        raise UserError(what, f"process {holder or 'unknown'} holds {path}", do) from error
    with _write_holder(lock, path):
        yield


@contextmanager
def wait_lock(path: Path, message: str = "", pause: Callable[[float], None] = time.sleep) -> Generator[None]:
    """Hold the lock on the file `path`; while another process or thread has it, print `message` once and call `pause`."""
    lock = _make_file_lock(path)
    is_waiting = False
    while not lock.is_locked:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if message and not is_waiting:
                print(message, file=sys.stderr, flush=True)
            is_waiting = True
            pause(POLL_SECONDS)
    with _write_holder(lock, path):
        yield


def lock_folder(folder: Path) -> int | None:
    """Lock a folder itself. Return the descriptor that holds the lock until it is closed, or None if another process has it
    or has just renamed the folder. On a file system without locks, every process gets a descriptor."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        is_locked = lock_descriptor(descriptor, blocking=False)
    except OSError:  # contention raises nothing, so this file system has no locks
        is_locked = True
    if is_locked and folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
        return descriptor
    os.close(descriptor)
    return None


def _make_file_lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False, fallback_to_soft=False)


@contextmanager
def _write_holder(lock: FileLock, path: Path) -> Generator[None]:
    """Keep this process's id in the lock file while it is held; release the lock at the end."""
    try:
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        os.truncate(path, 0)
        lock.release()
