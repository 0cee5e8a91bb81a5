"""Find the documents that paths and URLs name: files, folders, archives, addresses.

In: paths and URLs as typed. Out: `FoundDocument` with a function that reads its bytes, or `SkippedDocument` with the reason, in a
fixed order. Links are followed only to files inside the same folder tree; files whose names begin with a dot are skipped. Nothing
is extracted. Memory: the names of one folder. Time: O(files).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from assistant.knowledge.parsers.choose_parser import FORMATS, list_endings
from assistant.knowledge.parsers.layout import ParseError
from assistant.knowledge.pipeline_door import fetch_document, iterate_members, read_bounded, split_format

ARCHIVES = (".tar", ".zip")
MEMBER = "!/"  # between an archive and its member, as in Java's jar URLs


class FoundDocument(NamedTuple):
    """A document to read. `key` identifies it in the collection: its absolute path, archive and member, or URL."""

    key: str
    kind: str  # the ending that tells its format
    url: str
    n_bytes: int
    read: Callable[[], bytes]


class SkippedDocument(NamedTuple):
    """A file that is no document, or that can't be read: the reason, which is counted, and a detail for the user."""

    key: str
    reason: str
    detail: str


def is_url(name: str) -> bool:
    """Return whether a name on the command line is a URL."""
    return name.startswith(("http://", "https://"))


def make_root(name: str) -> str:
    """Return the key under which everything that a path or URL names is found."""
    return name if is_url(name) else str(Path(name).absolute())


def covers(root: str, key: str) -> bool:
    """Return whether a document was found below a root: the file itself, in its folder, or in its archive."""
    return key == root or key.startswith((root.rstrip("/") + "/", root + MEMBER))


def list_containers(key: str) -> Iterator[str]:
    """Yield the keys of the archive and of the folders that contain a document."""
    archive, mark, _ = key.partition(MEMBER)
    if mark:
        yield archive
    while "/" in archive:
        archive = archive.rpartition("/")[0]
        yield archive


def check_paths(names: list[str]) -> None:
    """Raise ValueError for a path that does not exist."""
    for name in names:
        if not is_url(name) and not os.path.lexists(name):
            raise ValueError(f"PATH: no such file or folder; found nothing at {name}; correct the path")


def find_documents(names: list[str]) -> Iterator[FoundDocument | SkippedDocument]:
    """Yield everything below the given paths and URLs."""
    for name in names:
        root = make_root(name)
        if is_url(name):
            yield from _find_remote(name)
        elif Path(root).is_dir():
            yield from _walk(Path(root))
        else:
            yield from _find_file(Path(root), is_named=True)


def count_files(names: list[str]) -> int:
    """Return the number of files below the given paths, for a progress bar; 0 if it is unknown, because one is an archive."""
    n_files = 0
    for name in names:
        is_folder = not is_url(name) and Path(name).is_dir()
        files = (file for _, _, found in os.walk(name) for file in found) if is_folder else [name]
        for file in files:
            if split_format(file)[0] in ARCHIVES:
                return 0
            n_files += 1
    return n_files


def _walk(root: Path) -> Iterator[FoundDocument | SkippedDocument]:
    inside = root.resolve()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield SkippedDocument(_make_key(folder), "unreadable", f"{error.strerror}")
            continue
        below: list[Path] = []
        for entry in found:
            path = folder / entry.name
            if entry.name.startswith("."):
                yield SkippedDocument(_make_key(path), "hidden", "its name begins with a dot")
            elif entry.is_symlink():
                yield from _find_link(path, inside)
            elif entry.is_dir(follow_symlinks=False):
                below.append(path)
            else:
                yield from _find_file(path)
        folders += reversed(below)


def _find_link(path: Path, inside: Path) -> Iterator[FoundDocument | SkippedDocument]:
    target = path.resolve()
    if not target.is_relative_to(inside):
        yield SkippedDocument(_make_key(path), "link_outside", f"it leads to {target}, outside the folder")
    elif target.is_dir():
        yield SkippedDocument(_make_key(path), "link", "a link to a folder that is read in its own place")
    else:
        yield from _find_file(path)


def _find_file(path: Path, *, is_named: bool = False) -> Iterator[FoundDocument | SkippedDocument]:
    """Yield a file, or the members of an archive."""
    key = _make_key(path)
    kind, compression = split_format(path.name)
    try:
        if not path.is_file():
            yield SkippedDocument(key, "not_a_file", "a pipe, a socket, a device or a broken link")
        elif kind in ARCHIVES:
            yield from _find_members(path, kind, compression)
        elif kind in FORMATS:
            yield FoundDocument(key, kind, "", path.stat().st_size, lambda: _read_file(path, compression))
        else:
            yield SkippedDocument(key, "unknown_format", f"known are {list_endings()} and archives of them")
    except OSError as error:
        yield SkippedDocument(key, "unreadable", f"{error.strerror}")


def _read_file(path: Path, compression: str) -> bytes:
    try:
        with path.open("rb") as file:
            return read_bounded(file, compression, path.name)
    except OSError as error:
        raise ParseError("unreadable", f"{error.strerror}") from error


def _find_members(path: Path, kind: str, compression: str) -> Iterator[FoundDocument | SkippedDocument]:
    archive = _make_key(path)
    try:
        for member in iterate_members(path, kind, compression):
            key = archive + MEMBER + member.name.encode("utf-8", "backslashreplace").decode()
            ending, packed = split_format(member.name)
            if member.problem:
                yield SkippedDocument(key, "not_a_file", member.problem)
            elif any(part.startswith(".") and part not in (".", "..") for part in member.name.split("/")):
                yield SkippedDocument(key, "hidden", "its name begins with a dot")
            elif ending not in FORMATS or (packed and ending in (".docx", ".pdf")):
                yield SkippedDocument(key, "unknown_format", f"known are {list_endings()}; no archives inside archives")
            else:
                yield FoundDocument(key, ending, "", 0, member.read)
    except ParseError as error:
        yield SkippedDocument(archive, error.reason, error.detail)


def _find_remote(url: str) -> Iterator[FoundDocument | SkippedDocument]:
    """Yield the document at a URL; the fetched file is removed when it has been read."""
    with tempfile.TemporaryDirectory(prefix="minigpt-knowledge-") as folder:
        try:
            remote = fetch_document(url, Path(folder))
        except ValueError as error:
            yield SkippedDocument(url, "not_fetched", " ".join(str(error).split()))
            return
        kind, compression = split_format(remote.file_name)
        path = Path(folder) / "fetched"
        path.write_bytes(remote.data)
        if kind in ARCHIVES:
            for each in _find_members(path, kind, compression):
                yield each._replace(key=url + each.key.removeprefix(_make_key(path)))
            return
        kind = kind if kind in FORMATS else _sniff(remote.data)
        yield FoundDocument(url, kind, url, len(remote.data), lambda: _read_file(path, compression))


def _sniff(data: bytes) -> str:
    """Return the format of a document whose URL has no known ending: PDF by its first bytes, else a page."""
    return ".pdf" if data.startswith(b"%PDF-") else ".html"


def _make_key(path: Path) -> str:
    """Return the path as text; bytes that are not UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()
