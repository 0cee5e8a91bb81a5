"""Files whose sha256 is known are hashed when they are first read from, and once only, also over many starts.

In: a file and the sha256 it should have. Out: nothing, or an error that names it. A record in `record` (one JSON line a file: size,
time of change, inode, sha256) spares the next start the hashing; a file with another size, time or inode is hashed again. Several
processes may add to one record; a line that is cut off or garbled counts as none.
Covers: what was damaged before it was first read, and whatever wrote to a file since. Does not cover: a disk that changes bytes
under an unchanged time after the file was hashed (delete the record to have all hashed again). Time: 1 to 2 GB a second.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path


class VerifiedFiles:
    """`record`: where it is remembered; None: by this object alone."""

    def __init__(self, record: Path | None = None) -> None:
        self.record = record
        self._known: set[str] = set()
        if record is not None and record.is_file():
            self._known = set(record.read_text(encoding="utf-8", errors="replace").splitlines())

    def check(self, path: Path, sha256: str) -> None:
        """Raises: ValueError that names the file, where it has another sha256."""
        status = path.stat()
        values = {"file": path.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}
        line = json.dumps(values | {"sha256": sha256})
        if line in self._known:
            return
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ValueError(
                f"a token shard is damaged; found sha256 {found[:12]}… in {path}, not {sha256[:12]}…; run the shard stage again."
            )
        self._known.add(line)
        if self.record is not None:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(descriptor, f"\n{line}\n".encode())  # behind a line that a killed process left unfinished
            finally:
                os.close(descriptor)
