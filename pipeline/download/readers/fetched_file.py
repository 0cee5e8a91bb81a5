"""Manage one fetched file in the cache: a folder with the complete or partial file and its metadata.

In: bytes appended to `.partial`. Out: the file under its own name, once it is complete, without a content coding of the server;
from then on it is verified against its sha256 each time it is used. A lock, which ends with the process that holds it, keeps two
processes from fetching the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.frame.locks import wait_lock
from pipeline.frame.metrics import write_json
from pipeline.storage.streams import BROKEN, BombError, CountedFile, decompress

BLOCK_BYTES = 1 << 18
PACKED_ENDINGS = {
    ".gz": (".gz", ".tgz", ".svgz", ".gzip"),
    ".zst": (".zst", ".tzst"),
}  # per coding: names of files that have it
MAGIC = {".gz": b"\x1f\x8b\x08", ".zst": b"\x28\xb5\x2f\xfd"}


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


class RemoteFile(NamedTuple):
    """What the server has reported about a file: `n_bytes` is its total size as it is sent, -1 if unknown; `coding` is how the
    server has compressed it, empty if it has not."""

    validators: Validators = Validators()
    n_bytes: int = -1
    coding: str = ""

    def is_same(self, other: RemoteFile) -> bool:
        """Return whether nothing indicates different versions. Mirrors behind one name have entity tags of their own: an equal date
        and length outweigh different tags."""
        (tag, date), (other_tag, other_date) = self.validators, other.validators
        if tag and tag == other_tag:
            return True
        has_lengths = self.n_bytes >= 0 and other.n_bytes >= 0
        is_dated = bool(date and other_date)
        if tag and other_tag:
            return is_dated and date == other_date and has_lengths and self.n_bytes == other.n_bytes
        return date == other_date if is_dated else not has_lengths or self.n_bytes == other.n_bytes

    def join(self, other: RemoteFile) -> RemoteFile:
        """Return what two reports about the same file have in common: the tags of different mirrors identify nothing."""
        tag, date = self.validators
        return (
            self
            if tag == other.validators.etag or not other.validators.etag
            else self._replace(validators=Validators("", date))
        )


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
        self._decoded = folder / f"{name}.decoded"

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
        if hash_file(self.path) != about["sha256"]:
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
        return _load_remote(self._partial_about) or RemoteFile()

    def begin(self, remote: RemoteFile) -> None:
        """Start an empty partial file."""
        about = {"url": self.url, **remote.validators._asdict(), "bytes": remote.n_bytes, "coding": remote.coding}
        write_json(self._partial_about, about)
        self.partial.touch()

    def discard_partial(self) -> None:
        """Remove the partial file and its metadata."""
        self.partial.unlink(missing_ok=True)
        self._partial_about.unlink(missing_ok=True)
        self._decoded.unlink(missing_ok=True)

    def decode_partial(self) -> Path:
        """Return the complete file without the server's coding: the partial file, or a decoded copy. Raise one of `BROKEN` or
        `BombError` if it cannot be decoded.

        A file whose own name ends in `.gz` is not decoded, unless it has been compressed twice."""
        coding = self.load_remote().coding
        if not coding or (
            self.path.name.lower().endswith(PACKED_ENDINGS[coding]) and not self._is_packed_twice(coding)
        ):
            return self.partial
        with self.partial.open("rb") as source, self._decoded.open("wb") as target:
            shutil.copyfileobj(decompress(CountedFile(source), coding), target, BLOCK_BYTES)
        return self._decoded

    def _is_packed_twice(self, coding: str) -> bool:
        magic = MAGIC[coding]
        try:
            with self.partial.open("rb") as source:
                return decompress(CountedFile(source), coding).read(len(magic)) == magic
        except (*BROKEN, BombError):
            return False

    def finish(self, complete: Path, sha256: str) -> Fetched:
        """Move the complete file to its final name, after its data and metadata are on disk."""
        remote, n_bytes = self.load_remote(), complete.stat().st_size
        with complete.open("rb") as file:
            os.fsync(file.fileno())
        about = {"url": self.url, "bytes": n_bytes, "sha256": sha256, **remote.validators._asdict()}
        write_json(self._about, about | {"sent_bytes": remote.n_bytes})
        complete.replace(self.path)
        self.discard_partial()
        return Fetched(self.path, self.url, n_bytes, sha256, remote.validators)


def list_versions(folder: Path) -> Iterator[tuple[str, RemoteFile, Path]]:
    """Yield (URL, what the server reported, folder) of all complete and partial files of a cache."""
    for about in (*folder.glob("*/about.json"), *folder.glob("*/partial.json")):
        try:
            url = json.loads(about.read_text(encoding="utf-8")).get("url", "")
            remote = _load_remote(about)
        except (FileNotFoundError, ValueError):  # just being removed, or written by another version of this program
            continue
        if remote and url:
            yield url, remote, about.parent


def _load_remote(path: Path) -> RemoteFile | None:
    if not path.exists():
        return None
    about = json.loads(path.read_text(encoding="utf-8"))
    n_bytes = about.get("sent_bytes", about["bytes"])
    return RemoteFile(Validators(about["etag"], about["last_modified"]), n_bytes, about.get("coding", ""))


def hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
