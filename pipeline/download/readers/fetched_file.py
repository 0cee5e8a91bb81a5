"""One fetched file in the cache: a folder with the file, or the half of it that has come, and what is known of it.

In: bytes appended to `.partial`. Out: the file under its own name, once it is whole; from then on it is checked against its
sha256 each time it is used. A lock, which ends with the process that holds it, keeps two from fetching the same.
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
    """What a server gives to tell the versions of a file apart."""

    etag: str = ""
    last_modified: str = ""

    def name(self) -> str:
        return self.etag or self.last_modified

    def strong(self) -> str:
        """What If-Range may carry: a strong entity tag, or the date; empty if there is none."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def agrees(self, other: Validators) -> bool:
        """No sign that they are of different files."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified))
        return next((mine == theirs for mine, theirs in pairs if mine and theirs), True)


class Half(NamedTuple):
    """What the server has said of a file that is under way; `n_bytes` of the whole, -1 where it did not say."""

    validators: Validators = Validators()
    n_bytes: int = -1


class Fetched(NamedTuple):
    """A whole file; `url` shows no secrets."""

    path: Path
    url: str
    n_bytes: int
    sha256: str
    validators: Validators


class Entry:
    """The place of one version of one file."""

    def __init__(self, folder: Path, name: str, url: str) -> None:
        self.folder, self.url = folder, url
        self.path = folder / name
        self.partial = folder / f"{name}.partial"
        self._about, self._half = folder / "about.json", folder / "partial.json"

    @contextmanager
    def locked(self, pause: Callable[[float], None]) -> Generator[None, None, None]:
        """Hold this entry; call `pause` while another process or thread holds it."""
        with wait_lock(self.folder / "lock", pause=pause):
            yield

    def kept(self) -> Fetched | None:
        """The whole file, if it is here and unharmed; a harmed one is removed and said so."""
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if not self.path.exists():
            return None
        if _sha256(self.path) != about["sha256"]:
            print(f"download: {self.path} is not what was fetched; it is fetched again", flush=True)
            self.path.unlink()
            return None
        validators = Validators(about["etag"], about["last_modified"])
        return Fetched(self.path, self.url, about["bytes"], about["sha256"], validators)

    def n_partial(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def half(self) -> Half:
        """What is known of the file that the half is of."""
        if not self._half.exists():
            return Half()
        known = json.loads(self._half.read_text(encoding="utf-8"))
        return Half(Validators(known["etag"], known["last_modified"]), known["bytes"])

    def begin(self, half: Half) -> None:
        write_json(self._half, {**half.validators._asdict(), "bytes": half.n_bytes})
        self.partial.touch()

    def forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self._half.unlink(missing_ok=True)

    def partial_sha256(self) -> str:
        return _sha256(self.partial)

    def finish(self, sha256: str) -> Fetched:
        """The half is whole."""
        n_bytes, validators = self.n_partial(), self.half().validators
        with self.partial.open("rb") as file:
            os.fsync(file.fileno())
        about = {"url": self.url, "bytes": n_bytes, "sha256": sha256, **validators._asdict()}
        write_json(self._about, about)
        self.partial.replace(self.path)
        self._half.unlink(missing_ok=True)
        return Fetched(self.path, self.url, n_bytes, sha256, validators)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
