"""Verify the sha256 of files when they are first read, and only once, also across restarts.

In: a file and its expected sha256. Out: nothing, or an error that names the file. The file `record` (one JSON line per file: size,
modification time, inode, sha256) saves hashing after a restart; a file with another size, time or inode is hashed again. Several
processes may append to one record; a truncated or garbled line is ignored.
Covers: damage before the first read, and writes to a file since. Does not cover: a disk that changes bytes without changing the
modification time after the file was hashed (delete the record to hash all files again). Time: 1 to 2 GB per second.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path


class VerifiedFiles:
    """Remembers verified files, in the file `record` if there is one."""

    def __init__(self, record: Path | None = None) -> None:
        self.record = record
        self._known: set[str] = set()
        if record is not None and record.is_file():
            self._known = set(record.read_text(encoding="utf-8", errors="replace").splitlines())

    def check(self, path: Path, sha256: str) -> None:
        """Hash a file unless it is known. Raises: ValueError that names the file if its sha256 differs."""
        status = path.stat()
        values = {"file": path.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}
        line = json.dumps(values | {"sha256": sha256})
        if line in self._known:
            return
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sha256:
            raise ValueError(
                f"a token shard is damaged; found sha256 {actual[:12]}… of {path}, not {sha256[:12]}…; run the shard stage again."
            )
        self._known.add(line)
        if self.record is not None:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(
                    descriptor, f"\n{line}\n".encode()
                )  # on a new line, after one that a killed process may have left unfinished
            finally:
                os.close(descriptor)
