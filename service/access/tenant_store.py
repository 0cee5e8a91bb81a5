"""Tenants: made, listed, and removed with everything that is theirs.

Removing: the tenant is marked, and from then on its keys are refused in every process; then its folder is deleted, its rows in
every table with a column `tenant`, what they left in the database's files, and at last the mark. Stopped anywhere, the same command
goes on. What a request that was running meanwhile still writes is deleted in the next round (MAX_ROUNDS), or by the command again.
Does not cover: backups, PostgreSQL's write-ahead log, and the MACs of the audit log, whose keys are deleted with the rows.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Table, delete, func, insert, select, update

from service.access.access_tables import KEYS, TENANTS
from service.access.tenant_files import TenantFiles, check_tenant
from service.clock import Clock, now
from service.database.database import Database
from service.database.metadata import METADATA

MAX_ROUNDS = 3


@dataclass(frozen=True)
class StoredTenant:
    """A tenant. `n_keys` counts those that were not revoked."""

    name: str
    created: datetime
    n_keys: int
    is_being_removed: bool


@dataclass(frozen=True)
class Removal:
    """What a tenant had."""

    tenant: str
    n_rows: dict[str, int] = field(default_factory=dict[str, int])
    n_files: int = 0
    n_bytes: int = 0


class TenantStore:
    """The tenants of a service."""

    def __init__(self, database: Database, files: TenantFiles, clock: Clock = now) -> None:
        self._database, self._files, self._clock = database, files, clock

    def add(self, tenant: str) -> None:
        """Make a tenant. Raises: ValueError for a wrong name, or one that exists."""
        check_tenant(tenant)
        with self._database.connect() as connection:
            if connection.scalar(select(TENANTS.c.tenant).where(TENANTS.c.tenant == tenant)) is not None:
                raise ValueError(f"tenant {tenant}: exists already; found it among the tenants; choose another name.")
            connection.execute(insert(TENANTS).values(tenant=tenant, created=self._clock()))

    def list_tenants(self) -> list[StoredTenant]:
        """Return all tenants by name."""
        n_keys = func.count(KEYS.c.id).filter(KEYS.c.revoked.is_(None))
        query = select(TENANTS, n_keys.label("n_keys")).outerjoin(KEYS, KEYS.c.tenant == TENANTS.c.tenant)
        with self._database.connect(is_read_only=True) as connection:
            rows = connection.execute(query.group_by(*TENANTS.c).order_by(TENANTS.c.tenant)).all()
        return [StoredTenant(row.tenant, row.created, row.n_keys, row.removing is not None) for row in rows]

    def measure(self, tenant: str) -> Removal:
        """Return what removing a tenant would delete. Raises: ValueError if there is nothing of this name."""
        with self._database.connect(is_read_only=True) as connection:
            n_rows = {
                table.name: connection.scalar(select(func.count()).where(table.c.tenant == tenant)) or 0
                for table in [*list_tenant_tables(), TENANTS]
            }
        files = _list_files(self._files.get_folder(tenant))
        if not any(n_rows.values()) and not self._files.get_folder(tenant).exists():
            raise ValueError(f"tenant: there is no such tenant; found {tenant[:80]!r}; list them with `tenants list`.")
        return Removal(tenant, n_rows, len(files), sum(path.lstat().st_size for path in files))

    def remove(self, tenant: str) -> Removal:
        """Delete everything of a tenant.

        Raises: ValueError if there is nothing of this name or a file can't be deleted, ServiceError if the database fails.
        """
        removal = self.measure(tenant)
        with self._database.connect() as connection:
            time = self._clock()
            if not connection.execute(update(TENANTS).where(TENANTS.c.tenant == tenant).values(removing=time)).rowcount:
                connection.execute(insert(TENANTS).values(tenant=tenant, created=time, removing=time))
        for _ in range(MAX_ROUNDS):
            self._delete_all(tenant)
            rest = self.measure(tenant)
            if not rest.n_files and sum(rest.n_rows.values()) == 1:  # the mark
                break
        with self._database.connect() as connection:
            connection.execute(delete(TENANTS).where(TENANTS.c.tenant == tenant))
        return removal

    def _delete_all(self, tenant: str) -> None:
        """Delete folder and rows once."""
        folder, tables = self._files.get_folder(tenant), list_tenant_tables()
        try:
            _delete_folder(folder)
        except OSError as error:
            raise ValueError(
                f"tenant {tenant}: its files can't be deleted; found {error.strerror}: {folder}; "
                "make them writable and run the command again."
            ) from error
        with self._database.connect() as connection:
            for table in tables:
                connection.execute(delete(table).where(table.c.tenant == tenant))
        self._database.erase_remains(tables)


def list_tenant_tables() -> Sequence[Table]:
    """Return the tables whose rows belong to tenants, those that refer to others first."""
    return [
        table
        for table in reversed(METADATA.sorted_tables)
        if "tenant" in table.c and not table.info.get("survives_tenant")
    ]


def _list_files(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def _delete_folder(folder: Path) -> None:
    """Delete a folder. Renamed first: what is opened by name from now on is not there."""
    removed = folder.with_name(f".removed-{folder.name}")
    if removed.exists():
        shutil.rmtree(removed)  # of an earlier removal that was stopped
    try:
        folder.rename(removed)
    except FileNotFoundError:
        return
    shutil.rmtree(removed)
