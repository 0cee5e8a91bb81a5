"""The tables of tenants and keys."""

from __future__ import annotations

from sqlalchemy import JSON, Column, String, Table

from service.database.metadata import METADATA, UtcTime

TENANTS = Table(
    "tenants",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("created", UtcTime, nullable=False),
    Column("removing", UtcTime),  # since when it is being removed: its keys are refused from then on
    info={"survives_tenant": True},  # removed last, by itself
)
KEYS = Table(  # revoked keys stay until their tenant is removed: they say who could do what, and until when
    "keys",
    METADATA,
    Column("tenant", String(63), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),  # sha256 of the secret, in hexadecimal
    Column("user", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("quota", JSON, nullable=False),
    Column("created", UtcTime, nullable=False),
    Column("expires", UtcTime),
    Column("revoked", UtcTime),
    Column("used", UtcTime),  # at most a minute old
    Column("replaced_by", String(32)),
)
ACCESS_FACTS = (
    Table(  # `keys_required`: a key was made once; the service is never open again, whatever is revoked or removed
        "access_facts",
        METADATA,
        Column("name", String(32), primary_key=True),
        Column("time", UtcTime, nullable=False),
        info={"survives_tenant": True},
    )
)
