"""The version in use as a folder: `var/champion` points to one whole version, always: `model/`, `index/`, version.json.

In: a function that fills an empty folder with a version's files. Out: `var/versions/<key>/` and the link `var/champion`
to it. A version is filled aside and renamed, the link is replaced in one step, so that nobody ever reads half a model;
the version replaced stays one turn longer, for whoever still has it open.
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


def install(root: Path, key: str, about: Mapping[str, str], fill: Callable[[Path], None]) -> Path:
    """Makes `var/champion` the version named `key`, downloaded by `fill` unless it lies there already."""
    folder = root / VERSIONS / key
    if not folder.exists():
        fill_whole(folder, fill)
    _write_about(folder, about)
    link, aside = root / LINK, root / LINK.with_name(".champion")
    if link.exists() and not link.is_symlink():
        raise UserError(f"{link}: in the way", "a folder that is no link to a version", "move it away, then pull again")
    before = link.resolve().name if link.is_symlink() else ""
    aside.unlink(missing_ok=True)
    aside.symlink_to(Path(os.path.relpath(folder, link.parent)))
    aside.replace(link)
    for other in (root / VERSIONS).iterdir():
        if other.name not in (key, before):
            shutil.rmtree(other)
    return link


def copy_to(folder: Path, about: Mapping[str, str], fill: Callable[[Path], None]) -> Path:
    """The version in a folder of one's own, which must be new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--to {folder}: already in use", "a file, or a folder with something in it", "give a new or empty folder"
        )
    fill_whole(folder, fill)
    _write_about(folder, about)
    return folder


def fill_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """`folder` appears when `fill` is done with it, and not before."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fill(partial)
        if folder.exists():
            folder.rmdir()  # empty: copy_to has looked
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_about(folder: Path, about: Mapping[str, str]) -> None:
    partial = folder / "version.json.partial"
    partial.write_text(json.dumps(dict(about), sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(folder / "version.json")
