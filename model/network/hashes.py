"""State and check the SHA-256 of every file of a folder, so that nothing that was changed, added or linked is ever loaded.

In: a folder. Out: a statement {relative path: SHA-256, or the target of a link}, or the names of the files that differ from one.
`python -m pipeline.registry` states the files of a version when it is published and writes the statement beside what it pulls.
Standard library only. Does not cover: a file that is replaced between the check and its use by someone who may write the folder.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

FILES = "files.json"  # beside model/, index/, embed/ and guard/ of a pulled version
LOADED = ("model", "index", "embed", "guard")  # the parts of a pulled version that an assistant loads


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below `folder` by its path. Raises: ValueError for a link or a special file, by name."""
    paths = dict(_walk(folder, ""))
    for name, path in paths.items():
        if kind := _describe_kind(path):
            raise ValueError(f"{name} is {kind}")
    return {name: hash_file(path) for name, path in sorted(paths.items())}


def compute_digest(files: Mapping[str, str]) -> str:
    """Return the SHA-256 of a statement: one line that stands for all files."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()


def find_changes(folder: Path, files: Mapping[str, str], parts: Sequence[str]) -> list[str]:
    """Return one line per file below these parts of `folder` that differs from the statement: changed, added, missing or linked."""
    paths = {name: path for part in parts for name, path in _walk(folder, part)}
    stated = {name for name in files if name.partition("/")[0] in parts or "" in parts}
    lines = {name: _describe_change(paths.get(name), files.get(name)) for name in sorted(paths.keys() | stated)}
    return [f"{name} {line}" for name, line in lines.items() if line]


def _describe_change(path: Path | None, stated: str | None) -> str:
    if path is None:
        return "is missing"
    if path.is_symlink():
        return "" if str(path.readlink()) == stated else "is a symbolic link"
    if stated is None:
        return "was added"
    if kind := _describe_kind(path):
        return f"is {kind}"
    return "" if hash_file(path) == stated else "was changed"


def check_version(folder: Path) -> None:
    """Check the parts of a version that was pulled. Raises: ValueError that names the files that differ from files.json."""
    try:
        files: dict[str, str] = json.loads((folder / FILES).read_text(encoding="utf-8"))
        changes = find_changes(folder, files, LOADED)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        changes = [f"{FILES} can't be read ({error})"]
    if changes:
        raise ValueError(
            f"{folder} is not what was published; found: {', '.join(changes[:5])}; find out who may write there "
            f"(docs/security.md), remove {folder.resolve()}, then run: python -m pipeline.registry pull"
        )


def _walk(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield every entry at or below `folder/name` that is no folder; links are not followed, except `folder` itself."""
    path = folder / name
    if name and (path.is_symlink() or not path.is_dir()):
        if path.is_symlink() or path.exists():
            yield name, path
        return
    for child in path.iterdir():
        yield from _walk(folder, f"{name}/{child.name}" if name else child.name)


def _describe_kind(path: Path) -> str:
    mode = path.lstat().st_mode
    return "" if stat.S_ISREG(mode) else "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
