"""Read a folder of policies: the files of all tenants, and a folder for each tenant that adds to them.

    POLICIES/authorization.cedar  content.yaml  decisions.yaml     for everybody
    POLICIES/TENANT/…                                              the same names: Cedar is added, YAML replaces key by key

In: a folder. Out: `PolicyFiles`, their bytes by relative name. A file is at most MAX_BYTES, a folder at most MAX_TENANTS tenants;
unknown names and anything but files (or links to files: that is how Kubernetes mounts them) are refused. Reading is repeated
while files change.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.access.tenant_files import TENANT

DEFAULTS = Path(__file__).parent / "defaults"
NAMES = ("authorization.cedar", "content.yaml", "decisions.yaml")
SCHEMA = "schema.cedarschema"  # the service's own, never a tenant's
ALSO = (SCHEMA, "README.md")  # may be beside them and is not read
MAX_BYTES = 256_000
MAX_TENANTS = 10_000
MAX_ATTEMPTS = 5  # of reading a folder that is being changed

Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class PolicyFiles:
    """The bytes of a folder's files by relative name (`content.yaml`, `acme/content.yaml`), and what tells whether they changed."""

    texts: Mapping[str, bytes]
    signature: Signature

    def list_tenants(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self.texts if "/" in name})

    def select(self, tenant: str) -> dict[str, bytes]:
        """Return the files that count for a tenant."""
        return {name: text for name, text in self.texts.items() if "/" not in name or name.startswith(tenant + "/")}


def hash_files(texts: Mapping[str, bytes]) -> str:
    """Return the name of the bytes: 16 hexadecimal digits of SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()[:16]


def read_signature(folder: Path) -> Signature:
    """Return names, sizes, times and inodes of a folder's files. Raises: ValueError for a folder that is not one of policies."""
    return tuple(
        (name, status.st_size, status.st_mtime_ns, status.st_ino) for name, status in sorted(_list_files(folder))
    )


def read_policy_files(folder: Path) -> PolicyFiles:
    """Return all files at one moment. Raises: ValueError if the folder can't be read or keeps changing."""
    for _ in range(MAX_ATTEMPTS):
        before = read_signature(folder)
        try:
            texts = {name: (folder / name).read_bytes() for name, *_ in before}
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ValueError(
                f"policies: {error.filename} can't be read; found {error.strerror}; make it readable."
            ) from error
        if read_signature(folder) == before and all(len(texts[name]) == size for name, size, *_ in before):
            return PolicyFiles(texts, before)
    raise ValueError(f"policies: {folder} changes while it is read; found {MAX_ATTEMPTS} different states; try again.")


def _list_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    n_tenants = 0
    for entry in _scan(folder):
        if entry.name in NAMES:
            yield entry.name, _check_file(entry)
        elif _is_folder(entry) and not entry.name.startswith("."):
            n_tenants += 1
            if TENANT.fullmatch(entry.name) is None or n_tenants > MAX_TENANTS:
                raise ValueError(
                    f"policies: {entry.name[:80]!r} is no tenant's name, or one of over {MAX_TENANTS}; use a-z, 0-9 and '-'."
                )
            for inner in _scan(Path(entry.path)):
                if inner.name in NAMES:
                    yield f"{entry.name}/{inner.name}", _check_file(inner)
                elif not _is_ignored(inner.name):
                    _refuse(f"{entry.name}/{inner.name}")
        elif not _is_ignored(entry.name):
            _refuse(entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link that leads to itself
        raise ValueError(
            f"policies: {entry.name[:80]} can't be read; found {error.strerror}; remove it, or put a folder there."
        ) from error


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise ValueError(
            f"policies: {folder} can't be read; found {error.strerror}; name a folder with {NAMES[0]}."
        ) from error


def _is_ignored(name: str) -> bool:
    return (
        name in ALSO or name.startswith((".", "__")) or name.endswith(("~", ".swp", ".tmp"))
    )  # editors' and Git's own


def _check_file(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        status = entry.stat()
    except OSError as error:
        raise ValueError(f"policies: {entry.name} can't be read; found {error.strerror}; put a file there.") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"policies: {entry.name} is no file; found a folder or a device; put a file there.")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"policies: {entry.name} is too large; found {status.st_size:,} bytes; at most {MAX_BYTES:,}.")
    return status


def _refuse(name: str) -> None:
    raise ValueError(f"policies: unknown file {name[:80]!r}; there are {', '.join(NAMES)}; rename or remove it.")
