"""Open the service's database: SQLite by default, PostgreSQL by URL. The only door to either.

    database = Database.open("sqlite:///var/service/service.sqlite")      or postgresql+psycopg://user:password@host/name
    with database.connect() as connection:                        one transaction: committed at the end, or nothing is written
        connection.execute(insert(TABLE).values(…))
    with database.connect(is_read_only=True) as connection: …    never waits for a writer (WAL; PostgreSQL: MVCC)

In: a URL. Out: SQLAlchemy connections, for worker threads; the pool is bounded; transactions don't nest. Any failure of the
database is a ServiceError 503 that says what to do, and the transaction is rolled back; IntegrityError passes through, because
only the caller knows what it means.
SQLite: WAL, only the owner may read the files (0600 in a folder of 0700), deleted rows are overwritten (secure_delete). A commit
survives a killed process at once; `?synchronous=full` in the URL also waits for the disk at each commit, for machines that may
lose power.
Time: 0.2 ms of a processor for a transaction of one row in SQLite. Writers of one process queue in order of arrival instead of
polling SQLite's lock; writers of several processes wait up to BUSY_SECONDS.
Does not cover: backups (docs/deployment.md), PostgreSQL's own write-ahead log and backups, which erasing a row does not reach.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, QueuePool, Row, Select, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from service.database.failures import explain_failure, make_error
from service.database.schema import load_tables, prepare_schema

BUSY_SECONDS = 5.0  # of waiting for a lock or a free connection
CONNECT_SECONDS = 3
POOL_SIZE = 8  # connections: more threads than these have nothing to do at once on a few cores
_PRAGMAS = (
    "journal_mode = WAL",
    "secure_delete = ON",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "cell_size_check = ON",
)
_NO_TRANSACTION: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "has_no_begin": True}


class Database:
    """A database with its pool of connections. `name` is its URL without the password."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self.shown = name  # in errors; of an open one without folder or address, since callers read them
        self._write_lock, self._reader_lock = threading.Lock(), threading.Lock()
        self._reader: Connection | None = None
        self._compiled: dict[Select[Any], tuple[str, tuple[str, ...]]] = {}

    @classmethod
    def open(cls, url: str, pool_size: int = POOL_SIZE) -> Database:
        """Open a database; create it and its tables where they are missing.

        Raises: ServiceError 503 for a database that can't be used, ValueError for a URL that is none.
        """
        parsed = _parse_url(url)
        load_tables()
        open_engine = _open_sqlite if parsed.get_backend_name() == "sqlite" else _open_postgres
        engine = open_engine(parsed, pool_size)
        database = cls(engine, _describe(parsed))
        try:
            with database.connect() as connection:
                prepare_schema(connection, database.name)
        except BaseException:
            engine.dispose()
            raise
        database.shown = Path(database.name).name if database.is_sqlite else "PostgreSQL"
        return database

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def connect(self, *, is_read_only: bool = False) -> Generator[Connection]:
        """Yield a connection in a transaction, which is committed at the end and rolled back after an exception.

        Raises: ServiceError 503 if the database fails.
        """
        has_lock = self.is_sqlite and not is_read_only
        if has_lock and not self._write_lock.acquire(timeout=BUSY_SECONDS):
            raise make_error(self.shown, "database_busy", "its writers wait for each other", "repeat the request")
        try:
            with self.engine.connect() as connection:
                if is_read_only:
                    connection = connection.execution_options(is_read_only=True)
                with connection.begin():
                    yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, sqlite3.Error) as error:
            if (failure := explain_failure(error, self.shown)) is None:
                raise
            raise failure from error
        finally:
            if has_lock:
                self._write_lock.release()

    def read(self, query: Select[Any], parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Return the rows of one select, for what each request reads: 40 µs in SQLite, a fifth of a transaction's time.

        Callers take turns on one connection, which is opened again where the server has closed it. Raises: ServiceError 503.
        """
        return self._read(lambda reader: reader.execute(query, parameters).all())

    def read_stored(self, query: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return the rows of one select, whose values may be as the database stores them: 10 µs in SQLite. For comparing them
        with those of an earlier call. `query` must be a constant. Raises: ServiceError 503."""
        if not self.is_sqlite:
            return self.read(query, parameters)
        if query not in self._compiled:
            compiled = query.compile(self.engine)
            self._compiled[query] = str(compiled), tuple(compiled.positiontup or ())
        text, names = self._compiled[query]
        values = [parameters[name] for name in names]
        return self._read(lambda reader: _get_sqlite(reader).execute(text, values).fetchall())

    def _read(self, fetch: Callable[[Connection], Sequence[Any]]) -> Sequence[Any]:
        with self._reader_lock:
            for attempt in range(2):
                try:
                    if self._reader is None:
                        self._reader = self.engine.connect().execution_options(**_NO_TRANSACTION)
                    return fetch(self._reader)
                except (SQLAlchemyError, sqlite3.Error) as error:
                    was_open = self._reader is not None
                    self._close_reader()
                    if attempt == 0 and was_open and isinstance(error, DBAPIError) and error.connection_invalidated:
                        continue
                    if (failure := explain_failure(error, self.shown)) is None:
                        raise
                    raise failure from error
        raise AssertionError("the second attempt returns or raises")

    def _close_reader(self) -> None:
        if self._reader is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._reader.close()
            self._reader = None

    def erase_remains(self, tables: Iterable[Table] = ()) -> None:
        """Overwrite what deleted rows have left in the files, so that no byte of them is found any more.

        SQLite has overwritten the pages already (secure_delete) and still has copies in its write-ahead log, which is emptied here;
        PostgreSQL rewrites the tables. Raises: ServiceError 503 where a reader keeps the log in use.
        """
        with self._autocommit() as connection:
            if not self.is_sqlite:
                for table in tables:
                    connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {_quote(connection, table)}")
                return
            [(is_busy, _, _)] = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if is_busy:
            raise make_error(
                self.shown, "database_busy", "a reader of deleted rows", "repeat the command to erase them"
            )

    def close(self) -> None:
        """Close all connections."""
        with self._reader_lock:
            self._close_reader()
        self.engine.dispose()

    @contextmanager
    def _autocommit(self) -> Generator[Connection]:
        """Yield a connection without a transaction."""
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(**_NO_TRANSACTION)
        except (SQLAlchemyError, sqlite3.Error) as error:
            if (failure := explain_failure(error, self.shown)) is None:
                raise
            raise failure from error


def _get_sqlite(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def insert_missing(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Insert a row unless there is one with its key; of two transactions that do it at once, one does."""
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(make(table).values(**values).on_conflict_do_nothing())


def choose_url(state: Path, url: str = "") -> str:
    """Return the URL of the database: the one that is given, else MINIGPT_DATABASE, else a SQLite file in the state folder."""
    return url or os.environ.get("MINIGPT_DATABASE") or f"sqlite:///{(state / 'service.sqlite').absolute()}"


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in ("sqlite", "postgresql+psycopg") or not parsed.database:
        found = "something else" if parsed is None else parsed.drivername  # never the URL: it can hold a password
        raise ValueError(
            f"database: must be sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME; found {found[:80]!r}; correct it."
        )
    return parsed


def _describe(url: URL) -> str:
    return str(url.database) if url.get_backend_name() == "sqlite" else url.set(query={}).render_as_string()


def _open_sqlite(url: URL, pool_size: int) -> Engine:
    path = Path(str(url.database)).absolute()
    synchronous = str(url.query.get("synchronous", "normal"))
    if synchronous not in ("normal", "full"):
        raise ValueError(f"database: ?synchronous= must be normal or full; found {synchronous[:80]!r}; correct it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # SQLite gives its log the same mode
    except OSError as error:
        failure = explain_failure(error, str(path))
        assert failure is not None
        raise failure from error
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=pool_size + 1,  # and the reader
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "cached_statements": 256},
    )

    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # `begin` below decides, not the driver
        for pragma in (*_PRAGMAS, f"synchronous = {synchronous}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("has_no_begin"):
            # A transaction that reads first and writes later would fail where another one has written meanwhile.
            connection.exec_driver_sql("BEGIN" if options.get("is_read_only") else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _open_postgres(url: URL, pool_size: int) -> Engine:
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "minigpt",
        "options": f"-c lock_timeout={int(BUSY_SECONDS * 1000)} -c idle_in_transaction_session_timeout=60000",
    }
    return create_engine(
        url,
        pool_size=pool_size + 1,  # and the reader
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        pool_pre_ping=True,  # a server that was restarted: the request after it does not fail
        connect_args=options,
    )


def _quote(connection: Connection, table: Table) -> str:
    return connection.dialect.identifier_preparer.format_table(table)
