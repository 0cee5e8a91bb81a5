"""Keep the heads of the audit chains outside the database: a file per tenant, which says what the chain's last row must be.

    STATE/audit/TENANT.head      {"seq": 41, "hash": "…", "next_seq": 44, "next_hash": "…"}

In: the head before and after a batch. `write` is called before the batch is committed, with both, and after it, with the new one
alone: a process that is killed in between leaves a chain that ends at one of the two, and any other end is a manipulation. A
file lock keeps processes of one machine apart. Without the file (a first start) nothing is anchored yet.
Whoever can change this folder too can hide a manipulation: `audit head` prints the heads, to keep them elsewhere.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.access.tenant_files import check_tenant
from service.journal.audit_chain import ChainHead
from service.service_error import ServiceError

SIZE = (
    320  # bytes of the file: one write replaces all of it, so that a killed process leaves the old or the new content
)
SUFFIX = ".head"
BUSY_SECONDS = 5.0  # of waiting for another process
POLL_SECONDS = 0.002
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Anchor:
    """The head of a chain, and the head that it gets if a batch in progress was committed."""

    head: ChainHead
    next: ChainHead | None = None

    def accepts(self, head: ChainHead) -> bool:
        """Return whether a chain may end here."""
        return head in (self.head, self.next)


class HeadFile:
    """The open, locked file of one tenant."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor, self._path = descriptor, path

    def read(self) -> Anchor | None:
        """Return what is anchored; None if nothing is. A damaged file counts as none and is logged: verification reports it."""
        data = os.pread(self._descriptor, SIZE, 0)
        return parse_anchor(data, self._path) if data.strip() else None

    def write(self, anchor: Anchor) -> None:
        """Replace the content. Raises: ServiceError 503 if the disk does not take it."""
        values: dict[str, Any] = {"seq": anchor.head.seq, "hash": anchor.head.hash.hex()}
        if anchor.next is not None:
            values |= {"next_seq": anchor.next.seq, "next_hash": anchor.next.hash.hex()}
        try:
            os.pwrite(self._descriptor, json.dumps(values).ljust(SIZE - 1).encode() + b"\n", 0)
        except OSError as error:
            raise _explain(error, self._path) from error


class AuditHeads:
    """The folder of head files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def lock(self, tenants: Iterable[str]) -> Generator[dict[str, HeadFile]]:
        """Yield the files of these tenants, which no other process can change meanwhile. Raises: ServiceError 503."""
        with ExitStack() as stack:
            files: dict[str, HeadFile] = {}
            for tenant in sorted(set(tenants)):  # in the same order everywhere: no deadlock
                path = self._get_path(tenant)
                try:
                    descriptor = self._open(path)
                    stack.callback(os.close, descriptor)
                    _lock(descriptor)
                except OSError as error:
                    raise _explain(error, path) from error
                files[tenant] = HeadFile(descriptor, path)
            yield files

    def read(self, tenant: str) -> Anchor | None:
        """Return what is anchored for a tenant; None if nothing is."""
        try:
            data = self._get_path(tenant).read_bytes()
        except FileNotFoundError:
            return None
        return parse_anchor(data, self._get_path(tenant)) if data.strip() else None

    def list_tenants(self) -> list[str]:
        """Return the tenants that have a head."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob("*" + SUFFIX))

    def _open(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, flags | os.O_CREAT, 0o600)
        if os.geteuid() == 0:  # a command of root's must not lock out the service
            owner = self.folder.parent.stat()
            for each in (self.folder, path):
                os.chown(each, owner.st_uid, owner.st_gid)
        return descriptor

    def _get_path(self, tenant: str) -> Path:
        return self.folder / f"{check_tenant(tenant)}{SUFFIX}"


def _lock(descriptor: int) -> None:
    """Lock a file. Raises: OSError if another process keeps it locked, such as one that hangs."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_SECONDS)


def parse_anchor(data: bytes, path: Path) -> Anchor | None:
    """Return the content of a head file; None, and a line in the log, if it is damaged."""
    try:
        values = json.loads(data)
        head = ChainHead(int(values["seq"]), bytes.fromhex(values["hash"]))
        following = (
            ChainHead(int(values["next_seq"]), bytes.fromhex(values["next_hash"])) if "next_seq" in values else None
        )
    except (ValueError, KeyError, TypeError):
        _LOG.error("the head of an audit log is damaged: %s", path)
        return None
    return Anchor(head, following)


def _explain(error: OSError, path: Path) -> ServiceError:
    return ServiceError(
        503,
        f"audit: the head can't be written; found {error.strerror} ({path.name}); make room, make it writable, end what locks it.",
        code="audit_unwritable",
        retry_after=1.0,
    )
