"""Write entries to the database in one thread, many in one transaction: an entry costs the event loop nothing but a queue.

    writer.submit(entry).result()      durable when it returns

In: entries. Out: a future for each, done when the entry is committed; it raises ServiceError 503 if that failed. The queue is
bounded: when it is full, the future fails at once. What is acknowledged is committed; what fails was not stored, and the caller is
told.
While the database fails, `problem` says why, and `check` refuses new requests before they cost anything; the thread itself finds
out when it works again, by recording that it does.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError

from service.access.caller import LOCAL_TENANT
from service.clock import Clock, now
from service.journal.audit_log import AuditEvent, AuditLog, make_audit_record
from service.journal.journal_entry import JournalEntry
from service.journal.journal_tables import JOURNAL, TEXTS, insert_rows
from service.journal.persons import Person, find_persons
from service.service_error import ServiceError

MAX_QUEUED = 10_000
MAX_BATCH = 200  # entries of one transaction
IDLE_SECONDS = 5.0  # between two calls of `on_idle`
RETRY_SECONDS = 2.0  # between two attempts to write while the database fails
_LOG = logging.getLogger(__name__)
MakeEntry = Callable[[], JournalEntry]
_Item = tuple[MakeEntry, "Future[None]"]


class JournalWriter:
    """The thread. `on_idle` is called now and then, for what is swept."""

    def __init__(
        self,
        log: AuditLog,
        clock: Clock = now,
        on_idle: Callable[[], None] | None = None,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._log, self._clock, self._on_idle = log, clock, on_idle
        self._queue: queue.Queue[_Item | None] = queue.Queue(max_queued)
        self._problem: ServiceError | None = None
        self._failed_at = 0.0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """Why nothing can be written now; empty if the last entries were written."""
        return self._problem.message if self._problem else ""

    def submit(self, entry: JournalEntry | MakeEntry) -> Future[None]:
        """Queue an entry, or the function that makes it, which the thread calls. Never blocks, never raises."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # whoever waits may leave; the entry is written all the same
        if self._is_closed:
            future.set_exception(_explain("it is closed", "restart the service"))
            return future
        try:
            self._queue.put_nowait((entry if callable(entry) else lambda: entry, future))
        except queue.Full:
            found = f"{self._queue.maxsize} entries that wait for the disk"
            future.set_exception(_explain(found, "send fewer requests at once"))
        return future

    def check(self) -> None:
        """Raise ServiceError 503 if what a new request does could not be recorded."""
        if self._problem is not None:
            raise self._problem

    def close(self, timeout: float = 10.0) -> None:
        """Write what is queued and end the thread."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        next_idle = time.monotonic() + IDLE_SECONDS
        while True:
            wait = RETRY_SECONDS if self._problem is not None else IDLE_SECONDS
            items, is_last = self._take(min(wait, max(0.0, next_idle - time.monotonic())))
            if items:
                self._write_safely(items)
            if is_last:
                return
            if self._problem is not None and time.monotonic() >= self._failed_at + RETRY_SECONDS:
                self._recover(self._problem)
            if self._on_idle is not None and time.monotonic() >= next_idle:
                try:
                    self._on_idle()
                except Exception:
                    _LOG.exception("sweeping the journal failed")
            if time.monotonic() >= next_idle:
                next_idle = time.monotonic() + IDLE_SECONDS

    def _take(self, timeout: float) -> tuple[list[_Item], bool]:
        """Return the entries that wait (perhaps none), and whether they are the last ones."""
        items: list[_Item] = []
        try:
            item = self._queue.get(timeout=timeout)
            while item is not None:
                items.append(item)
                if len(items) == MAX_BATCH:
                    return items, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return items, False
        return items, True

    def _write_safely(self, items: Sequence[_Item]) -> None:
        made: list[tuple[JournalEntry, Future[None]]] = []
        for make, future in items:
            try:
                made.append((make(), future))
            except ServiceError as error:  # such as a tenant's invalid policy: the request gets it
                _LOG.error("an answer can't be recorded: %s", error.message)
                future.set_exception(error)
            except Exception:
                _LOG.exception("an answer can't be recorded")
                future.set_exception(_explain("a fault", "see the log"))
        if made:
            self._write_made(made)

    def _write_made(self, items: Sequence[tuple[JournalEntry, Future[None]]]) -> None:
        error = self._try_write([entry for entry, _ in items])
        if error is not None and len(items) > 1 and not isinstance(error, ServiceError):
            for item in items:  # one of them is at fault: the others shall not suffer
                self._write_made([item])
            return
        if isinstance(error, ServiceError):
            self._problem, self._failed_at = error, time.monotonic()
        elif error is None:
            self._problem = None
        failure = error if isinstance(error, ServiceError) or error is None else _explain("a fault", "see the log")
        for _, future in items:
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

    def _recover(self, problem: ServiceError) -> None:
        """Try to write again, without waiting for a request, which nobody sends to a service that is not ready."""
        event = AuditEvent(LOCAL_TENANT, "journal.recovered", details={"from": problem.code})
        self._write_made([(JournalEntry(self._clock(), (event,)), Future())])

    def _try_write(self, entries: Sequence[JournalEntry]) -> Exception | None:
        try:
            write_entries(self._log, entries, self._clock())
        except ServiceError as error:
            _LOG.error("the journal can't be written: %s", error.message)
            return error
        except IntegrityError as error:
            _LOG.error("the journal has refused an entry: %s", type(error.orig).__name__)
            return error
        except Exception as error:
            _LOG.exception("writing the journal failed")
            return error
        return None


def write_entries(log: AuditLog, entries: Sequence[JournalEntry], time: datetime) -> None:
    """Write entries in one transaction: persons, rows of the journal, records of the audit log.

    Raises: ServiceError 503 if the database fails, IntegrityError for a request that has a row already.
    """
    wanted: dict[tuple[str, str], datetime] = {}
    for entry in entries:
        for event in entry.events:
            for user in (event.user, event.about):
                if user:
                    wanted[event.tenant, user] = min(wanted.get((event.tenant, user), entry.began), entry.began)
    with log.open_batch({event.tenant for entry in entries for event in entry.events}) as batch:
        persons = find_persons(batch.connection, wanted)
        rows = [_strip(entry.row, persons) for entry in entries if entry.row is not None]
        if rows:
            insert_rows(batch.connection, JOURNAL, rows)
        for entry in entries:
            if entry.write is not None:
                entry.write(batch.connection)
            for event in entry.events:
                batch.add(event.tenant, make_audit_record(event, time, persons))


def _strip(row: Mapping[str, Any], persons: Mapping[tuple[str, str], Person]) -> Mapping[str, Any]:
    """Return a row without its person and texts if the person was erased while it was made."""
    if (row["tenant"], row["user"]) in persons:
        return row
    return {**row, **dict.fromkeys(("user", "key_id", "conversation", *TEXTS), "")}


def _explain(found: str, action: str) -> ServiceError:
    return ServiceError(
        503,
        f"journal: an answer can't be recorded; found {found}; {action}.",
        code="journal_unwritable",
        retry_after=1.0,
    )
