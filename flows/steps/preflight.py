"""Check what DVC needs before anything starts: a Git repository, file names that can be written as UTF-8, no stale locks.

In: the repository's root. Out: nothing, or `PreflightError` with the three parts of an error. The first two faults would end the
first stage with a message of DVC that names neither the file nor what to do. DVC removes the locks of a killed process itself,
unless its id belongs to another program by now, or the file was half written: then it waits for minutes, and fails.
"""

from __future__ import annotations

import configparser
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from flows.steps import graph

CONFIGS = (".dvc/config", ".dvc/config.local")
RWLOCK = Path(".dvc/tmp/rwlock")
MAX_SHOWN = 3


class PreflightError(RuntimeError):
    """The workspace can't be run; the message has the three parts of an error."""


def check_workspace(root: Path) -> None:
    """Raise `PreflightError` if DVC could not run in this workspace."""
    check_git(root)
    check_names(root)
    remove_stale_locks(root)


def check_git(root: Path) -> None:
    """Raise `PreflightError` if there is no Git repository, which DVC wants unless its setting `core.no_scm` is true."""
    root = root.resolve()
    if any((folder / ".git").exists() for folder in (root, *root.parents)) or has_no_scm(root):
        return
    raise PreflightError(
        f"{root}: not a Git repository, which DVC needs\n  found: no folder .git here or above\n"
        "  to do: clone the repository instead of unpacking an archive, or run\n"
        '         git init && git add . && git commit -m "Start"'
    )


def has_no_scm(root: Path) -> bool:
    """Return whether DVC is configured to work without Git."""
    config = configparser.ConfigParser()
    config.read([root / name for name in CONFIGS], encoding="utf-8")
    return config.getboolean("core", "no_scm", fallback=False)


def check_names(root: Path) -> None:
    """Raise `PreflightError` if the name of an input file is not UTF-8: DVC keeps names as UTF-8."""
    found = [path for name in graph.list_inputs(root / "dvc.yaml") for path in list_undecodable(root, name)]
    if not found:
        return
    shown = "\n         ".join(path.decode("utf-8", "backslashreplace") for path in found[:MAX_SHOWN])
    more = f"\n         and {len(found) - MAX_SHOWN:,} more" if len(found) > MAX_SHOWN else ""
    raise PreflightError(
        "data: names of input files must be UTF-8, because DVC stores them as such\n"
        f"  found: {shown}{more}\n"
        "  to do: rename them, for example with `convmv -f latin1 -t utf8 -r --notest data` if they are Latin-1"
    )


def list_undecodable(root: Path, name: PurePosixPath) -> list[bytes]:
    """Return the paths below an input folder whose names are not UTF-8."""
    start = os.fsencode(root)
    return [
        os.path.relpath(os.path.join(folder, entry), start)  # noqa: PTH118 (bytes)
        for folder, folders, files in os.walk(os.path.join(start, os.fsencode(name)), followlinks=False)  # noqa: PTH118
        for entry in (*folders, *files)
        if not is_utf8(entry)
    ]


def is_utf8(name: bytes) -> bool:
    """Return whether a name can be decoded."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def remove_stale_locks(root: Path) -> None:
    """Remove DVC's file of locks if it can't be read or none of the processes in it is one of DVC."""
    path = root / RWLOCK
    try:
        pids = {info["pid"] for kind in json.loads(path.read_text()).values() for info in list_holders(kind)}
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError, AttributeError):
        path.unlink()
        return
    if pids and not any(is_dvc(pid) for pid in pids):
        path.unlink()


def list_holders(locks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the processes that hold locks of a kind: one for writing a path, several for reading it."""
    return [info for holders in locks.values() for info in (holders if isinstance(holders, list) else [holders])]


def is_dvc(pid: int) -> bool:
    """Return whether a process runs, and may be one of DVC."""
    try:
        return any("dvc" in word for word in psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
