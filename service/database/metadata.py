"""The tables of all rooms: each defines its own in `service/<room>/<name>_tables.py` on this METADATA.

A table that holds a tenant's data has the column `tenant` first in its primary key, by which removing a tenant finds its rows
(service/access/tenant_removal.py); `info={"survives_tenant": True}` exempts a table that has nothing of a person in it.
Times are stored by `UtcTime`, texts of unbounded length by `sqlalchemy.Text`, JSON by `sqlalchemy.JSON`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, Dialect, MetaData, String, Table
from sqlalchemy.types import TypeDecorator

METADATA = MetaData()


class UtcTime(TypeDecorator[datetime]):
    """A time in UTC as microseconds since 1970: the same order and the same value in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return what is stored. Raises: ValueError for a time without a zone, which could be any time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time needs its zone; found {value.isoformat()}; use service.clock.now().")
        difference = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (difference.days * 86_400 + difference.seconds) * 1_000_000 + difference.microseconds

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the time that was stored."""
        if value is None:
            return None
        seconds, microseconds = divmod(value, 1_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


SCHEMA = Table(  # one row: which program may read the rest
    "schema_version",
    METADATA,
    Column("name", String(16), primary_key=True),
    Column("version", BigInteger, nullable=False),
    info={"survives_tenant": True},
)
