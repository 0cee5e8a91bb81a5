"""The champion as a folder: the link `var/champion` always points to one complete version: `model/`, `index/`, `embed/`, `guard/`.

In: a function that downloads a version's files into an empty folder. Out: `var/versions/<key>/`, and the link `var/champion` to
it. A version is downloaded beside it and renamed, and the link is replaced atomically, so that no reader ever sees half a model;
the version that was replaced is kept until the next replacement, for processes that still have it open.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.frame.errors import UserError

LINK = Path("var/champion")
VERSIONS = Path("var/versions")


def install(root: Path, key: str, about: Mapping[str, str], fetch: Callable[[Path], None]) -> Path:
    """Point `var/champion` to the version named `key`, calling `fetch` only if it has not been downloaded; return the link."""
    folder = root / VERSIONS / key
    if not folder.exists():
        fetch_atomically(folder, fetch)
    _write_about(folder, about)
    link, new_link = root / LINK, root / LINK.with_name(".champion")
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link}: in the way", "a folder, not a link to a version", "move it away, then pull again")
    replaced = link.resolve().name if link.is_symlink() else ""
    new_link.unlink(missing_ok=True)
    new_link.symlink_to(Path(os.path.relpath(folder, link.parent)))
    new_link.replace(link)
    for other in (root / VERSIONS).iterdir():
        if other.name not in (key, replaced):
            shutil.rmtree(other)
    return link


def read_installed(root: Path) -> dict[str, str]:
    """Return name, version and alias of the version in var/champion; empty if there is none."""
    path = root / LINK / "version.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def copy_to(folder: Path, about: Mapping[str, str], fetch: Callable[[Path], None]) -> Path:
    """Download a version into `folder`, and return it. Raises `UserError` if it exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--to {folder}: already in use", "a file, or a folder with files", "give a new or empty folder"
        )
    fetch_atomically(folder, fetch)
    _write_about(folder, about)
    return folder


def fetch_atomically(folder: Path, fetch: Callable[[Path], None]) -> None:
    """Call `fetch` on a temporary folder, and rename that to `folder` only when it has succeeded."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fetch(partial)
        if folder.exists():
            folder.rmdir()  # it is empty: copy_to has checked
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_about(folder: Path, about: Mapping[str, str]) -> None:
    partial = folder / "version.json.partial"
    partial.write_text(json.dumps(dict(about), sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(folder / "version.json")
