"""Find the files that a user names by path, folder or glob, and read the rows of local ones.

`find_files` searches any location that fsspec supports, for download; it follows links to folders, except for those that lead back.
`find_below` searches below an input folder of a stage, so that DVC sees every byte that the stage reads. `iterate_rows` and
`find_texts` read what such a file contains. Memory: one row, or one batch of Parquet rows.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.frame.errors import UserError
from pipeline.storage.pointers import ANNEX_LINK, describe_link, find_pointer
from pipeline.storage.rows import BROKEN, ROWS, read_rows
from pipeline.storage.streams import CountedFile, decompress, split_name
from pipeline.storage.values import RowProblem

HIDDEN = re.compile(r"(^|/)\.\w")  # `.git`, `._notes.txt`; but `..md` may be the man page of a command
MAGIC = "*?["  # characters that make a path a glob
TEXT = ".txt"
KINDS = (*ROWS, TEXT)


class FoundFile(NamedTuple):
    """Describe a file: its path on the file system, its name inside the folder or glob, its size, and the version tag of a remote
    file. What can't be read as a file has a reason, which is counted, and a detail."""

    path: str
    name: str
    n_bytes: int
    version: str = ""
    reason: str = ""
    detail: str = ""


class LinkedFileSystem(LocalFileSystem):
    """Local files, where a link to a folder is a folder, unless it leads back to one that contains it."""

    def ls(self, path: Any, detail: bool = False, **kwargs: Any) -> list[Any]:
        try:
            infos: list[Any] = super().ls(path, detail=True, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        except PermissionError:  # a folder that can't be listed is listed itself, so that it is not lost silently
            infos = [{**self.info(path), "name": f"{path}/", "type": "other"}]
        for info in infos:
            if info["islink"] and Path(info["name"]).is_dir() and not _leads_back(info["name"]):
                info["type"] = "directory"
        return infos if detail else [info["name"] for info in infos]


def _leads_back(link: str) -> bool:
    """Return whether a link leads to a folder on the path that leads to it, or to one that contains such a folder."""
    target = Path(link).resolve()
    return any(folder.resolve().is_relative_to(target) for folder in Path(link).parents)


def find_files(path: str, setting: str) -> tuple[Any, list[FoundFile], int]:
    """Return (file system, files of any kind sorted by their names inside the source, number of hidden files left out). A file that
    `path` names directly is never left out. Raises `UserError` if there are none."""
    try:
        system, root = url_to_fs(path)
        system = LinkedFileSystem() if isinstance(system, LocalFileSystem) else system
        details, base = _find_matches(system, root)
    except (ValueError, ImportError, OSError) as error:
        raise UserError(
            f"{setting}: can't be looked up", f"{path!r}: {error}", "correct the address, or install what it needs"
        ) from error
    found = [
        FoundFile(
            name,
            name.removeprefix(base).lstrip("/"),
            int(info["size"] or 0),
            _get_version(info),
            *_find_problem(name, info),
        )
        for name, info in details.items()
    ]
    shown = sorted(
        (file for file in found if file.path == root or not is_hidden(file.name)), key=lambda file: file.name
    )
    if not shown:
        raise UserError(
            f"{setting}: no such file, folder or match", repr(path), "correct the path, or remove the entry"
        )
    return system, shown, len(found) - len(shown)


def _find_matches(system: Any, root: str) -> tuple[dict[str, Any], str]:
    """Return (files by path, prefix to remove from their paths): names inside a source do not depend on where it is stored."""
    if system.isdir(root):
        return dict(system.find(root, detail=True)), root
    if system.exists(root):
        return {root: system.info(root)}, root.rpartition("/")[0]
    if not any(char in root for char in MAGIC):
        return {}, root
    matches = system.glob(root, detail=True)
    plain = root[: min(root.index(char) for char in MAGIC if char in root)]
    return {name: info for name, info in matches.items() if info["type"] != "directory"}, plain.rpartition("/")[0]


def _find_problem(path: str, info: Mapping[str, Any]) -> tuple[str, str]:
    """Return (reason, detail) for something local that is not a file; reading a pipe would never end."""
    if "islink" not in info or info["type"] == "file":
        return "", ""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        target = str(info.get("destination", ""))
        return "pointer_file" if ANNEX_LINK.search(target) else "unreadable", describe_link(target)
    if stat.S_ISDIR(mode) and path.endswith("/"):
        return "unreadable", "a folder that this user may not list"
    if stat.S_ISDIR(mode):
        return "unknown_format", "a link that leads back to a folder above it"
    return ("", "") if stat.S_ISREG(mode) else ("not_a_file", "a pipe, a socket or a device")


def _get_version(info: dict[str, Any]) -> str:
    """Return the entity tag that an object store or web server gives; empty if there is none."""
    return next((f"etag {info[name]}" for name in ("ETag", "etag") if info.get(name)), "")


def is_hidden(name: str) -> bool:
    """Return whether the name of a file, or of a folder that contains it, begins with a dot."""
    return bool(HIDDEN.search(name))


def find_below(folder: Path, path: str, setting: str) -> list[FoundFile]:
    """Return the files that `path`, relative to the input `folder`, names: a file, a folder or a glob, also compressed.

    Raises `UserError` if there are none, if one is of another kind than `KINDS`, or if a link leads out of the folder.
    """
    root = folder.resolve()
    _, files, _ = find_files(str(root / path), setting)
    for file in files:
        if not Path(file.path).parent.resolve().is_relative_to(root):
            raise UserError(
                f"{setting}: leads out of {folder}",
                file.path,
                f"copy or move the files to {folder}, where DVC tracks them",
            )
        if file.reason:
            raise UserError(f"{setting}: not a file", f"{file.path}: {file.detail}", "remove it, or name other files")
        if split_name(file.name)[0] not in KINDS:
            raise UserError(
                f"{setting}: this kind of file can't be read", file.path, f"name files of {' '.join(KINDS)}"
            )
    return files


@contextmanager
def open_local(file: FoundFile, setting: str) -> Generator[IO[bytes]]:
    """Open a local file, decompressed. Errors while it is read are raised as `UserError`."""
    try:
        with Path(file.path).open("rb") as stream:
            if pointer := find_pointer(stream, file.n_bytes):
                raise UserError(f"{setting}: not the file itself", f"{file.path}: {pointer}", "fetch it, and run again")
            yield decompress(CountedFile(stream), split_name(file.name)[1])
    except (*BROKEN, UnicodeError) as error:
        raise UserError(f"{setting}: not readable", f"{file.path}: {error}", "replace the file") from error


def iterate_rows(
    stream: IO[bytes], kind: str, columns: Sequence[str], path: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number and the fields of each row. Raises `UserError` that names the first row that can't be read."""
    for number, row in read_rows(kind, stream, columns):
        if isinstance(row, RowProblem):
            what = "line" if row.reason == "not_json" else "row"
            raise UserError(f"{path}: {what} {number} {row.verdict}", row.detail, "correct the file, or name another")
        yield number, row


def find_texts(value: object, names: Sequence[str]) -> Iterator[str]:
    """Yield the non-blank texts at a path of field names; for a list, those of every element."""
    if isinstance(value, list):
        for each in value:
            yield from find_texts(each, names)
    elif names:
        if isinstance(value, Mapping):
            yield from find_texts(value.get(names[0]), names[1:])
    elif isinstance(value, str) and value.strip():
        yield value
