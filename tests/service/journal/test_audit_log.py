"""The audit log in a database: appended by threads and processes, killed anywhere, changed by anybody."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select

from benchmarks.service.audit_verify import find_manipulations, make_log
from service.__main__ import main
from service.database.database import Database
from service.journal.audit_chain import ChainHead, extend_chain
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog, export_audit, verify_audit, verify_export
from service.journal.journal_tables import AUDIT
from service.service_error import ServiceError
from tests.conftest import ROOT


def append(log: AuditLog, n_rows: int, tenant: str = "acme", name: str = "r") -> None:
    with log.open_batch([tenant]) as batch:
        for number in range(n_rows):
            batch.add(tenant, f'{{"name":"{name}","n":{number}}}')


@pytest.fixture
def log(database: Database, tmp_path: Path) -> AuditLog:
    return AuditLog(database, AuditHeads(tmp_path / "audit"))


@pytest.fixture
def sqlite_log(tmp_path: Path) -> AuditLog:
    return AuditLog(Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}"), AuditHeads(tmp_path / "audit"))


def find_problems(log: AuditLog) -> list[str]:
    return [
        f"{report.tenant}: {problem}" for report in verify_audit(log.database, log.heads) for problem in report.problems
    ]


def test_two_logs_and_four_threads_make_one_chain_per_tenant(log: AuditLog) -> None:
    other = AuditLog(log.database, AuditHeads(log.heads.folder))

    def work(each: AuditLog, name: str) -> None:
        for number in range(5):
            append(each, number % 3 + 1, ("acme", "globex")[number % 2], name)

    threads = [threading.Thread(target=work, args=(each, str(at))) for at, each in enumerate((log, other, log, other))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):  # verification sees whole batches only
        assert find_problems(log) == []
    for thread in threads:
        thread.join()
    reports = verify_audit(log.database, log.heads)
    assert [(report.tenant, report.n_rows, report.problems) for report in reports] == [
        ("acme", 24, ()),
        ("globex", 12, ()),
    ]


def test_a_batch_is_whole_or_not_there(log: AuditLog) -> None:
    append(log, 2)

    def fail() -> None:
        with log.open_batch(["acme"]) as batch:
            batch.add("acme", "{}")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    append(log, 1)
    [report] = verify_audit(log.database, log.heads)
    assert (report.n_rows, report.problems) == (3, ())


def test_each_of_60_random_manipulations_is_found(tmp_path: Path) -> None:
    """All thousand: python -m benchmarks audit_verify."""
    log = make_log(tmp_path, 80)
    assert find_manipulations(log, 60, random.Random(12)) == [True] * 60
    assert find_problems(log) == []
    log.database.close()


@pytest.mark.parametrize("kind", ["cut", "added", "rewritten"])
def test_what_is_appended_after_a_manipulation_does_not_hide_it(sqlite_log: AuditLog, kind: str) -> None:
    append(sqlite_log, 5)
    with sqlite_log.database.connect() as connection:
        last = (AUDIT.c.tenant == "acme") & (AUDIT.c.seq == 5)
        before = connection.scalar(select(AUDIT.c.hash).where(AUDIT.c.tenant == "acme", AUDIT.c.seq == 4))
        assert before is not None
        rows = extend_chain(ChainHead(4, bytes(before)), ["{}", "{}"])
        connection.execute(delete(AUDIT).where(last))
        if kind != "cut":
            values = [{"tenant": "acme", "seq": seq, "record": text, "hash": digest} for seq, text, digest in rows]
            connection.execute(insert(AUDIT), values[: 2 if kind == "added" else 1])
    for _ in range(2):
        append(AuditLog(sqlite_log.database, sqlite_log.heads), 2)  # a process that has just begun
        assert find_problems(sqlite_log) != []
    with sqlite_log.database.connect(is_read_only=True) as connection:
        records = " ".join(connection.scalars(select(AUDIT.c.record)))
    assert "audit.mismatch" in records


@pytest.mark.parametrize("content", [b"", b"{", b'{"seq": 1}', b"\xff" * 400, None])
def test_a_lost_or_damaged_head_stays_a_problem(sqlite_log: AuditLog, content: bytes | None) -> None:
    append(sqlite_log, 3)
    path = sqlite_log.heads.folder / "acme.head"
    path.unlink() if content is None else path.write_bytes(content)
    assert "no head is anchored" in find_problems(sqlite_log)[0]
    append(sqlite_log, 1)  # the process that has written it before knows no better either
    with sqlite_log.database.connect(is_read_only=True) as connection:
        assert any("audit.anchored" in record for record in connection.scalars(select(AUDIT.c.record)))
    assert "rows may have been cut" in find_problems(sqlite_log)[0]


def test_a_cut_is_found_though_its_head_file_is_gone_and_records_follow(sqlite_log: AuditLog) -> None:
    append(sqlite_log, 9)
    with sqlite_log.database.connect() as connection:
        connection.execute(delete(AUDIT).where(AUDIT.c.seq > 5))
    (sqlite_log.heads.folder / "acme.head").unlink()
    for log in (sqlite_log, AuditLog(sqlite_log.database, sqlite_log.heads)):
        append(log, 2)
        assert find_problems(sqlite_log) == [
            "acme: row 6: no head was anchored before it: rows may have been cut there"
        ]


def test_a_head_that_was_kept_elsewhere_finds_what_the_head_file_hides(
    sqlite_log: AuditLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--state", str(tmp_path), "--database", f"sqlite:///{tmp_path / 'service.sqlite'}"]
    append(sqlite_log, 5)
    assert main(["audit", "head", *flags]) == 0
    head = capsys.readouterr().out.strip()
    append(sqlite_log, 2)
    assert main(["audit", "verify", "--head", head, *flags]) == 0
    with sqlite_log.database.connect() as connection:  # another history, and head files that fit it
        connection.execute(delete(AUDIT))
    (sqlite_log.heads.folder / "acme.head").unlink()
    append(AuditLog(sqlite_log.database, sqlite_log.heads), 7, name="forged")
    assert main(["audit", "verify", *flags]) == 0
    assert main(["audit", "verify", "--head", head, *flags]) == 1
    assert "anchored" in capsys.readouterr().err


def test_an_export_verifies_without_the_database(log: AuditLog, tmp_path: Path) -> None:
    append(log, 4)
    append(log, 3, "globex")
    lines = list(export_audit(log.database, ["acme", "globex"]))
    heads = {report.tenant: report.head for report in verify_audit(log.database, log.heads)}
    assert [report.problems for report in verify_export(lines, heads)] == [(), ()]
    assert verify_export(lines[:3], heads)[0].problems != ()
    assert verify_export([line.replace('\\"n\\":1', '\\"n\\":2') for line in lines], {})[0].problems != ()
    with pytest.raises(ValueError, match="line 1"):
        verify_export(["hello\n"], {})


def test_a_full_disk_writes_nothing_and_says_so(sqlite_log: AuditLog) -> None:
    append(sqlite_log, 3)
    with sqlite_log.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # for this connection, which the pool keeps

    def fill() -> None:
        for _ in range(200):
            append(sqlite_log, 50)

    with pytest.raises(ServiceError) as caught:
        fill()
    assert (caught.value.status, caught.value.code) == (503, "database_full")
    with sqlite_log.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert find_problems(sqlite_log) == []
    append(sqlite_log, 3)
    assert find_problems(sqlite_log) == []


WRITER = """
import sys
from pathlib import Path
from service.database.database import Database
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog
state = Path(sys.argv[1])
log = AuditLog(Database.open(f"sqlite:///{state / 'service.sqlite'}"), AuditHeads(state / "audit"))
number = 0
while True:
    number += 1
    with log.open_batch(["acme"]) as batch:
        for _ in range(3):
            batch.add("acme", "{}")
    print(number, flush=True)
"""


def test_killed_anywhere_the_log_is_whole_and_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    heads = AuditHeads(tmp_path / "audit")
    n_acknowledged = 0
    for milliseconds in (1, 7, 19):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGKILL)
        n_acknowledged += 1 + len(process.stdout.read().split())
        process.wait()
        process.stdout.close()
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    assert [report.problems for report in verify_audit(database, heads)] == [()]
    with database.connect(is_read_only=True) as connection:
        n_rows = connection.scalar(select(func.count()).select_from(AUDIT)) or 0
    assert n_rows >= 3 * n_acknowledged
    assert n_rows % 3 == 0
    database.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_what_root_creates_belongs_to_the_owner_of_the_state(sqlite_log: AuditLog, tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1235)
    append(sqlite_log, 1)
    owners = {
        (path.stat().st_uid, path.stat().st_gid) for path in (tmp_path / "audit", tmp_path / "audit" / "acme.head")
    }
    assert owners == {(1234, 1235)}
    assert (tmp_path / "audit" / "acme.head").stat().st_mode & 0o777 == 0o600


def test_a_process_that_hangs_with_the_lock_makes_others_fail_not_hang(
    sqlite_log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(sqlite_log, 1)
    monkeypatch.setattr("service.journal.audit_heads.BUSY_SECONDS", 0.05)
    with AuditHeads(sqlite_log.heads.folder).lock(["acme"]), pytest.raises(ServiceError) as caught:
        append(sqlite_log, 1)
    assert (caught.value.status, caught.value.code) == (503, "audit_unwritable")
    append(sqlite_log, 1)
    assert find_problems(sqlite_log) == []
