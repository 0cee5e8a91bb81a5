"""Create and upgrade the tables. A program that is older than the file refuses it.

Every opening creates the missing tables of all rooms (the modules `*_tables.py`): a new table needs no version. A change needs
SCHEMA_VERSION + 1 and its function in UPGRADES. One transaction: a crash leaves the old schema or the new one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, text, update

from service.database.metadata import METADATA, SCHEMA
from service.service_error import ServiceError

SCHEMA_VERSION = 1
UPGRADES: Mapping[int, Callable[[Connection], None]] = {}  # from this version to the next one
APPLICATION_ID = 0x4D474432  # of a SQLite file of the service ("MGD2")
_LOCK_NUMBER = 0x4D474432  # of PostgreSQL's advisory lock: of two processes that begin, one creates the tables


def load_tables() -> None:
    """Import the tables of all rooms, so that whoever opens the database knows what is in it, also a command of one room."""
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*_tables.py")):
        importlib.import_module(".".join([root.name, *path.relative_to(root).with_suffix("").parts]))


def prepare_schema(
    connection: Connection,
    name: str,
    version: int = SCHEMA_VERSION,
    upgrades: Mapping[int, Callable[[Connection], None]] = UPGRADES,
) -> None:
    """Create what is missing and upgrade what is old, in the transaction of this connection.

    Raises: ServiceError 503 for a database of a later program, or of something else.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
    else:
        _check_application(connection, name)
    names = set(inspect(connection).get_table_names())
    current = connection.scalar(select(SCHEMA.c.version)) if SCHEMA.name in names else None
    if current is not None and current > version:
        raise _refuse(name, f"schema version {current}, and this program knows {version}", "update the program")
    if current is None and names & set(METADATA.tables):
        raise _refuse(name, "tables of the service without their version", "name another database")
    for step in range(current if current is not None else version, version):
        upgrades[step](connection)
    if not set(METADATA.tables) <= names:
        METADATA.create_all(connection)
    if current is None:
        connection.execute(insert(SCHEMA).values(name="service", version=version))
    elif current < version:
        connection.execute(update(SCHEMA).values(version=version))


def _check_application(connection: Connection, name: str) -> None:
    """Refuse a SQLite file of another program before anything is written to it."""
    application = connection.exec_driver_sql("PRAGMA application_id").scalar()
    if application == APPLICATION_ID:
        return
    n_tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
    if application or n_tables:
        raise _refuse(name, "a file of another program", "name another file")
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _refuse(name: str, found: str, action: str) -> ServiceError:
    return ServiceError(503, f"database: can't be used; found {found} ({name}); {action}.", code="database_refused")
