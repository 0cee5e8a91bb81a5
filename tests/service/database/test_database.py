"""Every operation holds on SQLite and on a real PostgreSQL: transactions, failures, schema versions, erasing."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, String, Table, Text, delete, func, insert, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from service.database.database import Database
from service.database.metadata import METADATA, SCHEMA, UtcTime
from service.database.schema import SCHEMA_VERSION, prepare_schema
from service.service_error import ServiceError
from tests.conftest import ROOT
from tests.service.conftest import PostgresServer

ROWS = Table(
    "test_rows",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("text", Text),
    Column("at", UtcTime),
)


@pytest.fixture(scope="module", autouse=True)
def no_table_is_left() -> Iterator[None]:
    yield
    METADATA.remove(ROWS)


def count(database: Database) -> int:
    with database.connect(is_read_only=True) as connection:
        return connection.scalar(select(func.count()).select_from(ROWS)) or 0


def add(database: Database, number: int, content: str = "", tenant: str = "a") -> None:
    with database.connect() as connection:
        connection.execute(insert(ROWS).values(tenant=tenant, number=number, text=content, at=datetime.now(UTC)))


def add_many(database: Database, content: str) -> None:
    for number in range(1, 100):
        add(database, number, content)


def test_a_transaction_is_written_whole_or_not_at_all(database: Database) -> None:
    def fail(number: int) -> None:
        with database.connect() as connection:
            connection.execute(insert(ROWS).values(tenant="a", number=1))
            connection.execute(insert(ROWS).values(tenant="a", number=1 // number))

    with pytest.raises(ZeroDivisionError):
        fail(0)
    with pytest.raises(IntegrityError):
        fail(1)
    assert count(database) == 0
    add(database, 1)
    assert count(database) == 1


def test_times_keep_their_microseconds_and_need_a_zone(database: Database) -> None:
    times = [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(2026, 11, 30, 12, 0, 0, 1, timezone(timedelta(hours=5.5))),
        datetime(9999, 12, 31, tzinfo=UTC),
    ]
    with database.connect() as connection:
        for number, time in enumerate(times):
            connection.execute(insert(ROWS).values(tenant="a", number=number, at=time))
        stored = connection.scalars(select(ROWS.c.at).order_by(ROWS.c.at)).all()
        assert stored == times
        assert all(time.tzinfo == UTC for time in stored)
        with pytest.raises(StatementError, match="needs its zone"):
            connection.execute(insert(ROWS).values(tenant="a", number=9, at=datetime(2026, 1, 1)))


def test_threads_write_at_once_and_every_row_arrives(database: Database) -> None:
    def write(worker: int) -> None:
        for number in range(25):
            add(database, worker * 100 + number)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 200


def test_a_reader_sees_one_state_and_does_not_wait_for_a_writer(database: Database) -> None:
    add(database, 1)
    with database.connect() as writer:
        writer.execute(insert(ROWS).values(tenant="a", number=2))
        assert count(database) == 1
    assert count(database) == 2


def test_opening_again_keeps_the_rows(database_url: str) -> None:
    for number in range(3):
        database = Database.open(database_url)
        assert count(database) == number
        add(database, number)
        database.close()


def test_processes_that_open_an_empty_database_at_once_make_one(database_url: str) -> None:
    databases: list[Database] = []
    threads = [
        threading.Thread(target=lambda: databases.append(Database.open(database_url, pool_size=1))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(databases) == 6
    with databases[0].connect(is_read_only=True) as connection:
        assert connection.scalar(select(func.count()).select_from(SCHEMA)) == 1
    for database in databases:
        database.close()


def test_an_older_program_refuses_a_newer_database(database_url: str) -> None:
    database = Database.open(database_url)
    with database.connect() as connection:
        connection.execute(SCHEMA.update().values(version=SCHEMA_VERSION + 1))
    database.close()
    with pytest.raises(ServiceError, match=r"schema version 2, and this program knows 1.*update the program"):
        Database.open(database_url)


def test_an_upgrade_happens_once_and_a_failed_one_not_at_all(database: Database) -> None:
    def widen(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE test_rows ADD COLUMN mood TEXT"))

    def widen_and_fail(connection: Connection) -> None:
        widen(connection)
        raise ZeroDivisionError

    upgrade = {SCHEMA_VERSION: widen_and_fail}
    with pytest.raises(ZeroDivisionError), database.connect() as connection:
        prepare_schema(connection, "test", SCHEMA_VERSION + 1, upgrade)
    for _ in range(2):
        with database.connect() as connection:
            prepare_schema(connection, "test", SCHEMA_VERSION + 1, {SCHEMA_VERSION: widen})
            connection.execute(text("SELECT mood FROM test_rows"))
            assert connection.scalar(select(SCHEMA.c.version)) == SCHEMA_VERSION + 1


def test_erased_rows_leave_no_byte(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    secrets = [f"needle{number}" * 600 for number in range(20)]  # long enough for overflow pages and TOAST
    for number, secret in enumerate(secrets):
        add(database, number, secret)
    add(database, 99, "stays")
    with database.connect() as connection:
        connection.execute(delete(ROWS).where(ROWS.c.number < 20))
    database.erase_remains([ROWS])
    if not database.is_sqlite:
        folder = request.getfixturevalue("postgres").folder / "data" / "base"
        with database.connect() as connection:
            connection.execute(text("CHECKPOINT"))
    else:
        folder = tmp_path / "service"
    contents: list[bytes] = []
    for path in folder.rglob("*"):
        with contextlib.suppress(
            FileNotFoundError, IsADirectoryError
        ):  # PostgreSQL deletes old files in the background
            contents.append(path.read_bytes())
    assert any(b"stays" in content for content in contents)
    assert not any(b"needle" in content for content in contents)


def test_remains_that_a_reader_holds_are_an_error_not_a_promise(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    add(database, 1)
    with sqlite3.connect(database.name) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM test_rows").fetchall()
        with database.connect() as connection:
            connection.execute(delete(ROWS))
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 10")
        with pytest.raises(ServiceError, match="repeat the command to erase them"):
            database.erase_remains()
    reader.close()
    database.erase_remains()
    database.close()


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = Database.open(f"sqlite:///{tmp_path / 'service' / 'a.sqlite'}")
        add(database, 1)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "service").iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert set(modes) == {"a.sqlite", "a.sqlite-wal", "a.sqlite-shm"}
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "service").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"not a database, but long enough to be read as the header of one" * 20, "database_corrupted"),
        (b"SQLite format 3\x00" + bytes(200), "database_corrupted"),
    ],
)
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(ServiceError, match="restore a backup") as error:
        Database.open(f"sqlite:///{path}")
    assert (error.value.status, error.value.code) == (503, code)
    assert path.read_bytes() == content


def test_pages_that_were_overwritten_are_reported(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    for number in range(300):
        add(database, number, "x" * 200)
    database.close()
    path = tmp_path / "a.sqlite"
    data = bytearray(path.read_bytes())
    data[4_096:] = b"\xff" * (len(data) - 4_096)
    path.write_bytes(data)
    with pytest.raises(ServiceError) as error:
        Database.open(f"sqlite:///{path}")
    assert error.value.code == "database_corrupted"


def test_a_file_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ServiceError, match="a file of another program"):
        Database.open(f"sqlite:///{path}")
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("birds",)]
    other.close()
    assert len(path.read_bytes()) == len(before)


def test_a_folder_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "service").write_text("")
    with pytest.raises(ServiceError, match="check its path"):
        Database.open(f"sqlite:///{tmp_path / 'service' / 'a.sqlite'}")


def test_a_full_disk_is_a_503_and_nothing_is_half_written(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}", pool_size=1)
    add(database, 0)
    before, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        with pytest.raises(ServiceError) as error:
            add_many(database, "x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, handler)
    assert error.value.status == 503
    assert error.value.code in ("database_full", "database_io")
    n_written = count(database)
    with database.connect(is_read_only=True) as connection:
        assert set(connection.scalars(select(func.length(ROWS.c.text)))) == {0, 20_000}
    add(database, n_written)
    assert count(database) == n_written + 1
    database.close()


def test_the_page_limit_of_sqlite_is_a_full_disk(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}", pool_size=1)
    with database.connect(is_read_only=True) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 20")
    with pytest.raises(ServiceError, match=r"a full disk.*free space") as error:
        add_many(database, "x" * 4_000)
    assert (error.value.code, error.value.retry_after) == ("database_full", 1.0)
    assert "(a.sqlite)" in error.value.message
    assert str(tmp_path) not in error.value.message  # a caller does not learn where it is
    database.close()


def test_a_lock_that_another_process_holds_is_a_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.database.database.BUSY_SECONDS", 0.1)
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    other = sqlite3.connect(database.name, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceError, match=r"a lock of another transaction.*repeat the request") as error:
        add(database, 1)
    assert error.value.code == "database_busy"
    other.execute("ROLLBACK")
    other.close()
    add(database, 1)
    database.close()


def test_a_pool_without_a_free_connection_is_a_503(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.database.database.BUSY_SECONDS", 0.1)
    database = Database.open(database_url, pool_size=1)
    database.read(select(SCHEMA.c.version))
    with database.connect(is_read_only=True), pytest.raises(ServiceError, match="no free connection"):
        count(database)
    assert count(database) == 0
    database.close()


def test_a_read_only_database_is_a_503(database: Database) -> None:
    command = "PRAGMA query_only = ON" if database.is_sqlite else "SET TRANSACTION READ ONLY"

    def write() -> None:
        with database.connect(is_read_only=True) as connection:
            connection.exec_driver_sql(command)
            connection.execute(insert(ROWS).values(tenant="a", number=1))

    with pytest.raises(ServiceError) as error:
        write()
    assert error.value.code == "database_read_only"


def test_a_killed_process_loses_nothing_that_was_acknowledged(database_url: str) -> None:
    Database.open(database_url).close()
    program = (
        "import sys\n"
        "from tests.service.database.test_database import add\n"
        "from service.database.database import Database\n"
        "database = Database.open(sys.argv[1])\n"
        "for number in range(100_000):\n"
        "    add(database, number)\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, database_url], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(40)][-1]
    process.kill()
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    acknowledged = int(rest[-1]) if rest else last
    database = Database.open(database_url)
    assert acknowledged + 1 <= count(database) <= acknowledged + 2
    database.close()


def test_postgres_that_restarts_is_an_error_once_at_most(postgres: PostgresServer) -> None:
    database = Database.open(postgres.make_database())
    add(database, 1)
    postgres.stop()
    with pytest.raises(ServiceError, match=r"can't be opened.*check its path or address") as error:
        count(database)
    assert error.value.code == "database_unreachable"
    postgres.start()
    assert count(database) == 1
    assert len(database.read(select(ROWS))) == 1
    postgres.stop()
    postgres.start()
    assert len(database.read(select(ROWS))) == 1  # the reader connects again by itself
    database.close()


def test_a_password_is_in_no_message(postgres: PostgresServer) -> None:
    url = f"postgresql+psycopg://minigpt:hunter2@/missing?host={postgres.folder}"
    with pytest.raises(ServiceError) as error:
        Database.open(url)
    assert "hunter2" not in str(error.value)
    assert "minigpt:***@" in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["", "var/service.sqlite", "mysql://root:hunter2@host/name", "sqlite://", "postgresql://host/name", "sqlite:///"],
)
def test_urls_of_something_else_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"database: must be sqlite:///PATH or postgresql\+psycopg") as error:
        Database.open(url)
    assert "hunter2" not in str(error.value)


def test_a_write_costs_less_than_a_third_of_a_millisecond(tmp_path: Path) -> None:
    """The processor's time, which other processes don't change: 0.2 ms where this was written."""
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    add(database, 0)
    costs: list[float] = []
    for part in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF)
        for number in range(200):
            add(database, 1 + part * 200 + number, "x" * 300)
        after = resource.getrusage(resource.RUSAGE_SELF)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    database.close()
    assert min(costs) / 200 < 0.0003 * (2 if "PYTEST_XDIST_WORKER" in os.environ else 1)


def test_a_copy_while_it_is_written_is_a_whole_database(tmp_path: Path) -> None:
    """docs/deployment.md: the backup is VACUUM INTO, which needs no stop."""
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    for number in range(20):
        add(database, number)
    with sqlite3.connect(database.name) as source:
        source.execute("VACUUM INTO ?", (str(tmp_path / "backup.sqlite"),))
    source.close()
    database.close()
    shutil.move(tmp_path / "backup.sqlite", tmp_path / "b.sqlite")
    restored = Database.open(f"sqlite:///{tmp_path / 'b.sqlite'}")
    assert count(restored) == 20
    restored.close()
