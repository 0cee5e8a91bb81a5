"""Erase a person: no byte of what the person wrote, or was answered, is left in any file of the service.

In: a tenant and a user. Out: what was deleted: rows of every table that has the columns tenant and user (journal, feedback, …), the
person's name and key in the audit log, memories, learners' logs, handovers. Files are overwritten before they are deleted; SQLite
overwrites deleted rows (secure_delete) and its write-ahead log is emptied, PostgreSQL's tables are rewritten (VACUUM FULL).
Interrupted anywhere, the command can be given again.
Whom a key's owner has named behind it (`user` of a request: stored as OWNER:NAME) is erased with the owner, or alone by that name.
Keys stay valid unless `revokes_keys`: who asks to be forgotten may want to stay. The audit log keeps the person's random name,
which nobody can resolve from then on.
Does not cover: backups, PostgreSQL's own write-ahead log, collections (a tenant's documents), texts in versions that were trained
(`pipeline.ledger takedown`), traces that were sent elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time as clocks
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, update

from service.access.access_tables import KEYS
from service.access.caller import Caller
from service.access.tenant_files import TenantFiles
from service.access.tenant_store import list_tenant_tables
from service.database.database import Database
from service.journal.audit_chain import make_record
from service.journal.audit_log import AuditLog
from service.journal.journal_tables import PERSONS
from service.journal.persons import destroy_persons
from service.service_error import ServiceError

WAIT_SECONDS = 10.0  # for readers that keep SQLite's write-ahead log in use
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Erasure:
    """What was erased, or would be: the person and the names behind it, rows by table, files, keys."""

    users: tuple[str, ...] = ()
    n_rows: dict[str, int] = field(default_factory=dict[str, int])
    files: tuple[Path, ...] = ()
    n_keys: int = 0


def measure_person(database: Database, files: TenantFiles, tenant: str, user: str) -> Erasure:
    """Return what `erase_person` would delete. Raises: ServiceError 503, ValueError for a name that is no tenant's."""
    with database.connect(is_read_only=True) as connection:
        users = _list_users(connection, tenant, user)
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table).where(_is(table, tenant, users))) or 0
            for table in _list_tables()
        }
        n_keys = connection.scalar(select(func.count()).select_from(KEYS).where(_is(KEYS, tenant, [user]))) or 0
    return Erasure(users, counts, tuple(path for each in users for path in _list_files(files, tenant, each)), n_keys)


def erase_person(
    log: AuditLog, files: TenantFiles, tenant: str, user: str, time: datetime, *, revokes_keys: bool = False
) -> Erasure:
    """Erase a person. Raises: ServiceError 503 if the database fails, ValueError if a file can't be deleted."""
    before = measure_person(log.database, files, tenant, user)
    tables = _list_tables()
    with log.open_batch([tenant]) as batch:
        names = batch.connection.scalars(select(PERSONS.c.person).where(_is(PERSONS, tenant, before.users))).all()
        for table in tables:
            if table is not PERSONS:
                batch.connection.execute(delete(table).where(_is(table, tenant, before.users)))
        destroy_persons(batch.connection, tenant, before.users, time)
        if revokes_keys:
            _revoke_keys(batch.connection, tenant, user, time)
        facts = {"about": sorted(names), "rows": sum(before.n_rows.values()), "files": len(before.files)}
        record = {"time": time.isoformat(timespec="milliseconds"), "what": "person.erased", **facts}
        batch.add(tenant, make_record(record))
    for path in before.files:
        _delete_file(path)
    for each in before.users:
        with contextlib.suppress(OSError):  # not empty, or not there
            files.get_profile_folders(Caller(tenant, each))["handover_folder"].rmdir()
    _overwrite(log.database, [*tables, KEYS])
    return before


def _list_tables() -> list[Table]:
    """Return the tables with rows of persons; keys have an own rule."""
    return [table for table in list_tenant_tables() if "user" in table.c and table is not KEYS]


def _list_users(connection: Connection, tenant: str, user: str) -> tuple[str, ...]:
    """Return a user and those whom its keys have named behind it (`USER:…`)."""
    users = {user}
    for table in _list_tables():
        is_behind = table.c.user.startswith(f"{user}:", autoescape=True)
        users.update(connection.scalars(select(table.c.user).where(table.c.tenant == tenant, is_behind).distinct()))
    return tuple(sorted(users))


def _is(table: Table, tenant: str, users: Collection[str]) -> ColumnElement[bool]:
    return (table.c.tenant == tenant) & table.c.user.in_(users)


def _revoke_keys(connection: Connection, tenant: str, user: str, time: datetime) -> None:
    nobody = f"erased-{secrets.token_hex(6)}"
    connection.execute(update(KEYS).where(_is(KEYS, tenant, [user]), KEYS.c.revoked.is_(None)).values(revoked=time))
    connection.execute(update(KEYS).where(_is(KEYS, tenant, [user])).values(user=nobody))


def _list_files(files: TenantFiles, tenant: str, user: str) -> Iterator[Path]:
    caller = Caller(tenant, user)
    memory = files.get_memory_file(caller)
    yield from (path for path in memory.parent.glob(f"{memory.name}*") if path.is_file())
    folders = files.get_profile_folders(caller)
    yield from sorted(folders["log_folder"].glob(f"*/{files.get_user_name(caller)}.jsonl"))
    yield from sorted(path for path in folders["handover_folder"].rglob("*") if path.is_file())


def _delete_file(path: Path) -> None:
    """Overwrite a file and delete it. Raises: ValueError that says what to do."""
    try:
        with path.open("r+b", buffering=0) as file:
            for start in range(0, path.stat().st_size, _BLOCK):
                file.write(bytes(min(_BLOCK, path.stat().st_size - start)))
            os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        return  # somebody else has deleted it
    except OSError as error:
        raise ValueError(
            f"erase: a file can't be deleted; found {error.strerror}: {path}; make it writable and give the command again."
        ) from error


def _overwrite(database: Database, tables: list[Table]) -> None:
    deadline = clocks.monotonic() + WAIT_SECONDS
    while True:
        try:
            database.erase_remains(tables)
            return
        except ServiceError as error:
            if error.code != "database_busy" or clocks.monotonic() > deadline:
                raise
            clocks.sleep(0.1)
