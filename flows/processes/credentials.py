"""Create and read the keys of our servers: one file per server in var/keys, which only its owner can read.

In: the repository's root and the name of a server (prefect, mlflow, serve). Out: its key, made at the first use. A key file that
other users could read is replaced by a new key, because they may know the old one; where the file system has no modes (FAT, some
mounts of Windows drives) it is kept, and `is_private` is False.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from filelock import FileLock

KEYS = Path("var/keys")
USER = "minigpt"  # of HTTP basic authentication
OPEN_TO_OTHERS = 0o077
MIN_BYTES = 32  # less is a file that was not written completely


class KeyFileError(RuntimeError):
    """A key file can't be read or written; the message has the three parts of an error."""


def read_key(root: Path, server: str) -> str:
    """Return the key of a server; create it unless there is one that only its owner can read. Raises `KeyFileError`."""
    path = root / KEYS / server
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_usable(path):
            with FileLock(path.parent / ".lock"):  # of several processes that start at once, one makes the key
                if not _is_usable(path):
                    _write_key(path)
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(
            f"{path}: the key of the server can't be read or written\n  found: {error}\n"
            f"  to do: make {path.parent} a folder that belongs to you, on a disk with space, then try again"
        ) from error


def is_private(root: Path, server: str) -> bool:
    """Return whether only the owner can read the key: False on a file system that has no modes."""
    return not (root / KEYS / server).stat().st_mode & OPEN_TO_OTHERS


def make_basic(key: str) -> str:
    """Return user and key as Prefect's PREFECT_API_AUTH_STRING expects them."""
    return f"{USER}:{key}"


def _is_usable(path: Path) -> bool:
    """Return whether the file has a key that others can't have read; remove one that they can, where the file system has modes."""
    try:
        mode = path.stat().st_mode
        if len(path.read_bytes().strip()) < MIN_BYTES:
            return False
    except FileNotFoundError:
        return False
    if not mode & OPEN_TO_OTHERS:
        return True
    path.chmod(0o600)
    if path.stat().st_mode & OPEN_TO_OTHERS:
        return True
    path.unlink()
    return False


def _write_key(path: Path) -> None:
    """Write a new key to a file of mode 600, and rename it when it is complete."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
