"""Check what DVC needs before anything starts: a Git repository, and file names that can be written as UTF-8.

In: the repository's root. Out: nothing, or `PreflightError` with the three parts of an error. Both faults would end the first
stage with a message of DVC that names neither the file nor what to do.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path, PurePosixPath

from flows.steps import graph

CONFIGS = (".dvc/config", ".dvc/config.local")
MAX_SHOWN = 3


class PreflightError(RuntimeError):
    """The workspace can't be run; the message has the three parts of an error."""


def check_workspace(root: Path) -> None:
    """Raise `PreflightError` if DVC could not run in this workspace."""
    check_git(root)
    check_names(root)


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
    shown = "\n         ".join(ascii(os.fsdecode(path))[1:-1] for path in found[:MAX_SHOWN])
    more = f"\n         and {len(found) - MAX_SHOWN:,} more" if len(found) > MAX_SHOWN else ""
    raise PreflightError(
        f"{Path(os.fsdecode(found[0])).parts[0]}: names of input files must be UTF-8, because DVC stores them as such\n"
        f"  found: {shown}{more}\n"
        "  to do: rename them: `convmv -f latin1 -t utf8 -r --notest FOLDER` if they are Latin-1"
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
