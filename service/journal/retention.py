"""Delete rows of the journal that are older than the tenant's policy keeps them.

In: the clock, the policies. Out: rows deleted, overwritten in the files, and a record in the audit log of how many. A clock that
has jumped must not delete everything: a sweep compares the clock with the time that has really passed since the service began,
and leaves rows alone while the two differ. Rows are deleted in chunks, so that nobody waits long for the database.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select

from service.clock import Clock, now
from service.database.database import Database
from service.journal.audit_chain import make_record
from service.journal.audit_log import AuditLog
from service.journal.journal_tables import ERASURES, JOURNAL
from service.policy.policy_store import PolicyStore
from service.service_error import ServiceError

SWEEP_SECONDS = 600.0
CHUNK = 5_000  # rows of a tenant in one transaction: some 50 ms
MAX_DRIFT_SECONDS = 3600.0  # between the clock and the time that has passed
KEEP_ERASURES = timedelta(days=2)  # longer than any answer takes
_LOG = logging.getLogger(__name__)


class RetentionSweep:
    """Called often, sweeps every SWEEP_SECONDS."""

    def __init__(
        self,
        log: AuditLog,
        policies: PolicyStore,
        clock: Clock = now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._policies, self._clock, self._monotonic = log, policies, clock, monotonic
        self._began, self._began_at = clock(), monotonic()
        self._next = self._began_at

    def __call__(self) -> None:
        """Sweep if it is time to, and if the clock can be believed."""
        if self._monotonic() < self._next:
            return
        self._next = self._monotonic() + SWEEP_SECONDS
        expected = self._began + timedelta(seconds=self._monotonic() - self._began_at)
        drift = abs((self._clock() - expected).total_seconds())
        if drift > MAX_DRIFT_SECONDS:
            _LOG.error(
                "the clock has jumped by %.0f s: no row is deleted until it is right or the service restarts", drift
            )
            return
        counts = sweep_journal(self._log, self._policies, self._clock())
        if max(counts.values(), default=0) >= CHUNK:
            self._next = self._monotonic()  # there are more: go on when the thread is idle again


def sweep_journal(log: AuditLog, policies: PolicyStore, time: datetime) -> dict[str, int]:
    """Delete what has expired, a chunk of each tenant. Return the number of rows by tenant. Raises: ServiceError 503."""
    counts: dict[str, int] = {}
    with log.database.connect(is_read_only=True) as connection:
        oldest = {
            row[0]: row[1]
            for row in connection.execute(select(JOURNAL.c.tenant, func.min(JOURNAL.c.time)).group_by(JOURNAL.c.tenant))
        }
    for tenant, first in oldest.items():
        try:
            limit = time - timedelta(days=policies.get(tenant).rules.storage.retention_days)
        except (ServiceError, OverflowError):
            continue  # an invalid policy deletes nothing
        if first >= limit:
            continue
        with log.open_batch([tenant]) as batch:
            where = (JOURNAL.c.tenant == tenant) & (JOURNAL.c.time < limit)
            old = select(JOURNAL.c.id).where(where).order_by(JOURNAL.c.time).limit(CHUNK)
            chunk = (JOURNAL.c.tenant == tenant) & JOURNAL.c.id.in_(old)
            counts[tenant] = batch.connection.execute(delete(JOURNAL).where(chunk)).rowcount
            details = {"time": time.isoformat(timespec="milliseconds"), "what": "journal.swept", "rows": counts[tenant]}
            batch.add(tenant, make_record({**details, "before": limit.isoformat(timespec="seconds")}))
    _forget_erasures(log.database, time)
    if counts:
        _overwrite(log.database)
    return counts


def _forget_erasures(database: Database, time: datetime) -> None:
    with database.connect(is_read_only=True) as connection:
        where = ERASURES.c.time < time - KEEP_ERASURES
        if connection.scalar(select(func.count()).select_from(ERASURES).where(where)) == 0:
            return
    with database.connect() as connection:
        connection.execute(delete(ERASURES).where(where))


def _overwrite(database: Database) -> None:
    """Empty SQLite's log of deleted rows; PostgreSQL's autovacuum does so in its own time."""
    if not database.is_sqlite:
        return
    try:
        database.erase_remains()
    except ServiceError as error:  # a reader holds the log: the next sweep empties it
        _LOG.info("swept rows are still in the write-ahead log: %s", error.code)
