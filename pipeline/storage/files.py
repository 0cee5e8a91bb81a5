"""Find the files that a user names by path, folder or glob, and read them row by row.

`find_files` searches any location that fsspec supports, for download. `find_below` searches below an input folder of a stage, so
that DVC sees every byte that the stage reads. `read_lines`, `read_rows` and `find_texts` read text, JSON lines and Parquet. Memory:
one line, or one batch of Parquet rows.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
from fsspec.core import url_to_fs

from pipeline.frame.errors import UserError
from pipeline.storage.streams import BROKEN, BombError, CountedFile, decompress, split_name
from pipeline.storage.tables import read_parquet_stream

HIDDEN = re.compile(r"(^|/)\.\w")  # `.git`, `._notes.txt`; but `..md` may be the man page of a command
MAGIC = "*?["  # characters that make a path a glob
TEXT, PARQUET = ".txt", ".parquet"
KINDS = (".jsonl", ".ndjson", PARQUET, TEXT)


class FoundFile(NamedTuple):
    """Describe a file: its path on the file system, its name inside the folder or glob, its size, and the version tag of a remote
    file."""

    path: str
    name: str
    n_bytes: int
    version: str = ""


def find_files(path: str, setting: str) -> tuple[Any, list[FoundFile], int]:
    """Return (file system, files of any kind sorted by their names inside the source, number of hidden files left out). A file that
    `path` names directly is never left out. Raises `UserError` if there are none."""
    try:
        system, root = url_to_fs(path)
        details, base = _find_matches(system, root)
    except (ValueError, ImportError, OSError) as error:
        raise UserError(
            f"{setting}: can't be looked up", f"{path!r}: {error}", "correct the address, or install what it needs"
        ) from error
    found = [
        FoundFile(name, name.removeprefix(base).lstrip("/"), int(info["size"] or 0), _get_version(info))
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
            yield decompress(CountedFile(stream), split_name(file.name)[1])
    except (*BROKEN, BombError, pa.ArrowException, UnicodeError) as error:
        raise UserError(f"{setting}: not readable", f"{file.path}: {error}", "replace the file") from error


def read_lines(stream: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line that is not blank; UTF-8, with or without a byte order mark."""
    for number, line in enumerate(stream, 1):
        text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode().strip()
        if text:
            yield number, text


def read_rows(
    stream: IO[bytes], kind: str, columns: Sequence[str], path: str
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number and the fields of each row of Parquet (only `columns`) or JSON lines (all fields)."""
    if kind == PARQUET:
        yield from enumerate(read_parquet_stream(stream, columns), 1)
        return
    for number, text in read_lines(stream):
        try:
            row: Any = json.loads(text)
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} is not JSON", str(error), "correct the file, or name another"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is not a JSON object", text[:80], "write one object on each line")
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
