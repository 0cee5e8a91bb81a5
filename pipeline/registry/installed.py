"""The files of a version as they are installed: checked against what the version states, before anything reads them.

In: the downloaded files of an MLflow model, and the SHA-256 of each as stated when the version was published. Out: a folder with
`model/`, `index/`, `embed/` and `guard/`, which the assistant loads, `package/`, which MLflow's server loads (its code, links to
these), and files.json, the same statement for these paths. A file that was changed, added, removed or replaced by a link is refused
by name, so that no code and no pickle runs that was not published.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from model.network.hashes import FILES, LOADED, find_changes, hash_files
from pipeline.frame.errors import UserError

PACKAGE = "package"
# Of model/, index/, embed/ and guard/ in the MLflow model: named like the published folders.
SOURCES = ("artifacts/sft", "artifacts/index", "artifacts/embed", "artifacts/guard")
LATER = SOURCES[2:]  # parts that versions published before there were such stages lack
EARLIER_INDEX = (
    "passages.sqlite"  # of a version published before the index was a stage of its own, among the files of its model
)
ABOUT = "version.json"  # written again by each pull: the version's name, number and alias


def list_files(folder: Path, name: str) -> dict[str, str]:
    """Return the SHA-256 of every file of a version by its path. Raises `UserError` for a link or a special file among them."""
    try:
        return hash_files(folder)
    except ValueError as error:
        raise _make_refusal(name, [str(error)]) from error


def install_files(download: Path, files: Mapping[str, str], folder: Path, name: str) -> None:
    """Check a downloaded MLflow model and move it into the empty `folder`. Raises `UserError` that names each file that differs."""
    if changes := find_changes(download, files, [""]):
        raise _make_refusal(name, changes)
    move_artifacts(download / "artifacts", folder)
    shutil.copytree(download, folder / PACKAGE, dirs_exist_ok=True)
    for source, target in _list_parts(files).items():
        link = folder / PACKAGE / source
        link.symlink_to(os.path.relpath(folder / target, link.parent))
    (folder / FILES).write_text(_format(map_files(files)), encoding="utf-8")


def check_installed(folder: Path, files: Mapping[str, str], name: str) -> None:
    """Check a folder that `install_files` has made. Raises `UserError` that names each file that differs."""
    installed = map_files(files)
    statement = {FILES: hashlib.sha256(_format(installed).encode()).hexdigest()}
    changes = [line for line in find_changes(folder, installed | statement, [""]) if not line.startswith(f"{ABOUT} ")]
    if changes:
        raise _make_refusal(f"{folder}, {name}", changes, f"remove {folder}, then pull again")


def map_files(files: Mapping[str, str]) -> dict[str, str]:
    """Return the statement of the installed paths: a SHA-256 for each file, a target for each link."""
    has_index = any(path.startswith(f"{SOURCES[1]}/") for path in files)
    links = {f"{PACKAGE}/{source}": f"../../{target}" for source, target in _list_parts(files).items()}
    return links | {_map_path(path, has_index=has_index): digest for path, digest in files.items()}


def _list_parts(files: Iterable[str]) -> dict[str, str]:
    """Return source and target of each part of a version; early versions have no `embed/` and no `guard/`."""
    paths = list(files)
    parts = dict(zip(SOURCES, LOADED, strict=True))
    missing = {source for source in LATER if not any(path.startswith(f"{source}/") for path in paths)}
    return {source: target for source, target in parts.items() if source not in missing}


def _map_path(path: str, *, has_index: bool) -> str:
    for source, target in zip(SOURCES, LOADED, strict=True):
        if path.startswith(f"{source}/"):
            rest = path.removeprefix(f"{source}/")
            return f"{LOADED[1]}/{rest}" if rest == EARLIER_INDEX and not has_index else f"{target}/{rest}"
    return f"{PACKAGE}/{path}"


def move_artifacts(artifacts: Path, folder: Path) -> None:
    """Move the artifacts of a version to `model/`, `index/`, `embed/` and `guard/` below `folder`.

    A version published before the index was a stage of its own has the passages among the files of its model.
    """
    shutil.move(artifacts / "sft", folder / "model")
    for name in LOADED[1:]:
        if (artifacts / name).is_dir():
            shutil.move(artifacts / name, folder / name)
    if not (folder / "index").is_dir():
        (folder / "index").mkdir()
        shutil.move(folder / "model" / EARLIER_INDEX, folder / "index" / EARLIER_INDEX)


def _format(files: Mapping[str, str]) -> str:
    return json.dumps(dict(files), indent=1, sort_keys=True) + "\n"


def _make_refusal(name: str, changes: list[str], do: str = "promote another version") -> UserError:
    more = f", and {len(changes) - 5} more" if len(changes) > 5 else ""
    return UserError(
        f"{name}: its files are not those that were published",
        ", ".join(changes[:5]) + more,
        f"find out who may write them (docs/security.md); {do}",
    )
