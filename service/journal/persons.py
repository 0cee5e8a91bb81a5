"""Give each person a random name and a random key, by which the audit log speaks of the person, and destroy both.

Once the row is deleted, nobody can tell whom a record is about or which text a MAC stands for; the chain still verifies. Whoever
comes back is another person. An answer that began before the person was erased is stored without person and texts.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from service.journal.journal_tables import ERASURES, PERSONS

_FIND = select(PERSONS.c.person, PERSONS.c.key, PERSONS.c.since).where(
    PERSONS.c.tenant == bindparam("of"), PERSONS.c.user == bindparam("whom")
)
MAX_NAME_CHARS = 256


@dataclass(frozen=True)
class Person:
    """How the audit log names a person. The key must not leave this process."""

    name: str
    key: bytes


def clean_text(text: str) -> str:
    """Return a text that every database takes: PostgreSQL has no NUL, neither encodes lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def name_user(user: str) -> str:
    """Return the name of a user as it is in the tables."""
    return clean_text(user[:MAX_NAME_CHARS])


def digest_person(tenant: str, user: str) -> str:
    """Return a digest that names a person in a file name or a row, without the name."""
    return hashlib.sha256(f"{tenant}\0{user}".encode("utf-8", "replace")).hexdigest()[:24]


def find_persons(connection: Connection, wanted: Mapping[tuple[str, str], datetime]) -> dict[tuple[str, str], Person]:
    """Return the persons by tenant and user; `wanted` says since when each has been acting. Those who are new get a row; those who
    were erased since are left out."""
    found: dict[tuple[str, str], Person] = {}
    for (tenant, user), began in wanted.items():
        row = connection.execute(_FIND, {"of": tenant, "whom": user}).first()
        if (row is None or began < row.since) and _was_erased(connection, tenant, user, began):
            continue
        found[tenant, user] = Person(row.person, bytes(row.key)) if row else _add(connection, tenant, user, began)
    return found


def destroy_persons(connection: Connection, tenant: str, users: Collection[str], time: datetime) -> int:
    """Delete names and keys, and remember until when what was begun is not stored. Return how many there were."""
    n_destroyed = 0
    for user in map(name_user, users):
        where = (PERSONS.c.tenant == tenant) & (PERSONS.c.user == user)
        n_destroyed += connection.execute(delete(PERSONS).where(where)).rowcount
        digest = digest_person(tenant, user)
        connection.execute(delete(ERASURES).where(ERASURES.c.tenant == tenant, ERASURES.c.digest == digest))
        connection.execute(insert(ERASURES).values(tenant=tenant, digest=digest, time=time))
    return n_destroyed


def _was_erased(connection: Connection, tenant: str, user: str, began: datetime) -> bool:
    where = (ERASURES.c.tenant == tenant) & (ERASURES.c.digest == digest_person(tenant, user))
    erased = connection.scalar(select(ERASURES.c.time).where(where))
    return erased is not None and began <= erased


def _add(connection: Connection, tenant: str, user: str, since: datetime) -> Person:
    person = Person(f"person_{secrets.token_hex(8)}", secrets.token_bytes(32))
    values = {"tenant": tenant, "user": user, "person": person.name, "key": person.key, "since": since}
    try:
        with connection.begin_nested():
            connection.execute(insert(PERSONS).values(values))
    except IntegrityError:  # another process was first
        row = connection.execute(_FIND, {"of": tenant, "whom": user}).one()
        return Person(row.person, bytes(row.key))
    return person
