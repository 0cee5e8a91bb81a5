"""Manage one fetched file in the cache: a folder with the complete or partial file and its metadata.

In: bytes appended to `.partial`. Out: the file under its own name, once it is complete; from then on it is verified against its
sha256 each time it is used. A lock, which ends with the process that holds it, keeps two processes from fetching the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.frame.locks import wait_lock
from pipeline.frame.metrics import write_json


class Validators(NamedTuple):
    """The HTTP validators by which a server tells versions of a file apart."""

    etag: str = ""
    last_modified: str = ""

    def get_version(self) -> str:
        """Return the entity tag, else the date."""
        return self.etag or self.last_modified

    def get_strong(self) -> str:
        """Return what If-Range may carry: a strong entity tag, or the date; empty if there is none."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def matches(self, other: Validators) -> bool:
        """Return whether nothing indicates different versions."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified))
        return next((own == others for own, others in pairs if own and others), True)


class RemoteFile(NamedTuple):
    """What the server has reported about a file; `n_bytes` is its total size, -1 if unknown."""

    validators: Validators = Validators()
    n_bytes: int = -1


class Fetched(NamedTuple):
    """A complete file; secrets in `url` are masked."""

    path: Path
    url: str
    n_bytes: int
    sha256: str
    validators: Validators


class Entry:
    """The cache folder of one version of one file."""

    def __init__(self, folder: Path, name: str, url: str) -> None:
        self.folder, self.url = folder, url
        self.path = folder / name
        self.partial = folder / f"{name}.partial"
        self._about, self._partial_about = folder / "about.json", folder / "partial.json"

    @contextmanager
    def hold(self, pause: Callable[[float], None]) -> Generator[None, None, None]:
        """Hold this entry; call `pause` while another process or thread holds it."""
        with wait_lock(self.folder / "lock", pause=pause):
            yield

    def load_fetched(self) -> Fetched | None:
        """Return the complete file if it is cached and intact; a corrupted one is removed, with a message."""
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if not self.path.exists():
            return None
        if _hash_file(self.path) != about["sha256"]:
            print(f"download: {self.path} does not match the sha256 of the fetched file; fetching it again", flush=True)
            self.path.unlink()
            return None
        validators = Validators(about["etag"], about["last_modified"])
        return Fetched(self.path, self.url, about["bytes"], about["sha256"], validators)

    def get_partial_bytes(self) -> int:
        """Return the size of the partial file."""
        return self.partial.stat().st_size if self.partial.exists() else 0

    def load_remote(self) -> RemoteFile:
        """Return what the server reported when the partial file was started."""
        if not self._partial_about.exists():
            return RemoteFile()
        about = json.loads(self._partial_about.read_text(encoding="utf-8"))
        return RemoteFile(Validators(about["etag"], about["last_modified"]), about["bytes"])

    def begin(self, remote: RemoteFile) -> None:
        """Start an empty partial file."""
        write_json(self._partial_about, {**remote.validators._asdict(), "bytes": remote.n_bytes})
        self.partial.touch()

    def discard_partial(self) -> None:
        """Remove the partial file and its metadata."""
        self.partial.unlink(missing_ok=True)
        self._partial_about.unlink(missing_ok=True)

    def hash_partial(self) -> str:
        """Return the sha256 of the partial file."""
        return _hash_file(self.partial)

    def finish(self, sha256: str) -> Fetched:
        """Move the completed partial file to its final name, after its data and metadata are on disk."""
        n_bytes, validators = self.get_partial_bytes(), self.load_remote().validators
        with self.partial.open("rb") as file:
            os.fsync(file.fileno())
        about = {"url": self.url, "bytes": n_bytes, "sha256": sha256, **validators._asdict()}
        write_json(self._about, about)
        self.partial.replace(self.path)
        self._partial_about.unlink(missing_ok=True)
        return Fetched(self.path, self.url, n_bytes, sha256, validators)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
