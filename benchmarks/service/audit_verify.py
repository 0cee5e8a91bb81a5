"""Verify the audit log: a million chained rows in at most ten seconds, and 1,000 of 1,000 random manipulations are found.

Rows are read from SQLite in constant memory and hashed one by one, since each hash needs the one before. A manipulation is what
somebody who can write to the database could do: change a record or a hash, delete, cut, add, swap, or compute all hashes anew from
some row on.
"""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from benchmarks.measure import Result, Row
from service.database.database import Database
from service.journal.audit_chain import ChainHead, extend_chain, make_genesis
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog, verify_audit
from service.journal.journal_tables import AUDIT

TENANT = "acme"
N_KINDS = 7
BATCH = 10_000


def run(*, n_rows: int = 1_000_000, n_edits: int = 1_000, n_edited: int = 500, seed: int = 1) -> Result:
    """Return verified rows per second. `n_edits` manipulations are made in a log of `n_edited` rows, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        log = make_log(Path(name) / "large", n_rows)
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        [report] = verify_audit(log.database, log.heads)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        assert (report.n_rows, report.problems) == (n_rows, ())
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        log.database.close()
        small = make_log(Path(name) / "small", n_edited)
        n_found = sum(find_manipulations(small, n_edits, random.Random(seed)))
        small.database.close()
    details: list[Row] = [
        {"what": f"seconds for {n_rows:,} rows", "value": seconds},
        {"what": f"processor seconds for {n_rows:,} rows", "value": processor},
        {"what": f"found of {n_edits:,} manipulations", "value": float(n_found)},
    ]
    return Result("verify the audit log", "rows/s", n_rows / seconds, details=details)


def make_log(folder: Path, n_rows: int) -> AuditLog:
    """Return a log with rows such as answers leave."""
    log = AuditLog(Database.open(f"sqlite:///{folder / 'service.sqlite'}"), AuditHeads(folder / "audit"))
    for start in range(0, n_rows, BATCH):
        with log.open_batch([TENANT]) as batch:
            for number in range(start, min(n_rows, start + BATCH)):
                batch.add(TENANT, make_row(number))
    return log


def make_row(number: int) -> str:
    """Return a record of usual size."""
    record = {
        "mac": f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}",
        "on": f"req_{number:024d}",
        "policy": "a274051521518",
        "n": number,
    }
    return json.dumps(
        {**record, "time": "2026-11-30T12:00:00.000+00:00", "what": "answer.end", "who": "person_0123456789ab"}
    )


def find_manipulations(log: AuditLog, n_edits: int, rng: random.Random) -> list[bool]:
    """Make one manipulation after the other, and undo each. Return which were found."""
    anchor = log.heads.read(TENANT)
    assert anchor is not None
    with log.database.connect(is_read_only=True) as connection:
        stored = [dict(row) for row in connection.execute(select(AUDIT)).mappings()]
    found: list[bool] = []
    for _ in range(n_edits):
        with log.database.connect() as connection:
            manipulate(connection, rng, anchor.head)
        found.append(any(report.problems for report in verify_audit(log.database, log.heads)))
        with log.database.connect() as connection:
            connection.execute(delete(AUDIT))
            connection.execute(insert(AUDIT), stored)
    return found


def manipulate(connection: Connection, rng: random.Random, head: ChainHead) -> None:
    """Do one of the things that somebody who can write to the database could do."""
    at, kind = rng.randint(1, head.seq), rng.randrange(N_KINDS)
    here = (AUDIT.c.tenant == TENANT) & (AUDIT.c.seq == at)
    record, digest = connection.execute(select(AUDIT.c.record, AUDIT.c.hash).where(here)).one()
    if kind == 0:
        place = rng.randrange(len(record))
        text = record[:place] + chr(ord(record[place]) ^ 1) + record[place + 1 :]
        connection.execute(update(AUDIT).where(here).values(record=text))
    elif kind == 1:
        place = rng.randrange(32)
        flipped = bytes(byte ^ (at_byte == place) for at_byte, byte in enumerate(digest))
        connection.execute(update(AUDIT).where(here).values(hash=flipped))
    elif kind == 2:
        connection.execute(delete(AUDIT).where(here))
    elif kind == 3:
        connection.execute(delete(AUDIT).where(AUDIT.c.tenant == TENANT, AUDIT.c.seq >= at))
    elif kind == 4:
        _insert(connection, extend_chain(head, [record]))
    elif kind == 5:
        there = (AUDIT.c.tenant == TENANT) & (AUDIT.c.seq == at % head.seq + 1)
        moved = connection.scalar(select(AUDIT.c.record).where(there))
        connection.execute(update(AUDIT).where(here).values(record=moved))
        connection.execute(update(AUDIT).where(there).values(record=record))
    else:
        _rewrite(connection, at)


def _rewrite(connection: Connection, at: int) -> None:
    """Replace a record, and compute all hashes from there on so that they fit."""
    behind = (AUDIT.c.tenant == TENANT) & (AUDIT.c.seq > at)
    records = list(connection.scalars(select(AUDIT.c.record).where(behind).order_by(AUDIT.c.seq)))
    before = connection.scalar(select(AUDIT.c.hash).where(AUDIT.c.tenant == TENANT, AUDIT.c.seq == at - 1))
    connection.execute(delete(AUDIT).where(AUDIT.c.tenant == TENANT, AUDIT.c.seq >= at))
    start = make_genesis(TENANT) if before is None else ChainHead(at - 1, bytes(before))
    _insert(connection, extend_chain(start, ["{}", *records]))


def _insert(connection: Connection, rows: list[tuple[int, str, bytes]]) -> None:
    values = [{"tenant": TENANT, "seq": seq, "record": record, "hash": digest} for seq, record, digest in rows]
    connection.execute(insert(AUDIT), values)
