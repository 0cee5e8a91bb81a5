"""Store remembered sentences in one SQLite file, so that what is forgotten is in no file any more.

In: a sentence with its source: conversation, turn, time (the caller's), and perhaps the time when it expires. Out: `Memory` values,
oldest first. Each operation opens the file and closes it again, so several processes may use it at once. Deleting overwrites
(`secure_delete`), rewrites the file (VACUUM, milliseconds at this size) and truncates the write-ahead log. Expired sentences are
deleted whenever memories are read. No full-text index: it would keep copies.
Bounds: MAX_MEMORIES of MAX_CHARS. Only the owner may read the file.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Collection, Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

MAX_MEMORIES = 1_000
MAX_CHARS = 500
TIMEOUT_SECONDS = 10.0  # of waiting for another process
APPLICATION_ID = 0x4D474D31
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")
_SCHEMA = """
CREATE TABLE memories (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL,
    conversation TEXT NOT NULL,
    turn INTEGER NOT NULL,
    time TEXT NOT NULL,
    expires TEXT
)
"""


class Memory(NamedTuple):
    """A remembered sentence. `number` is never given again; `expires` is empty for one that stays."""

    number: int
    text: str
    conversation: str
    turn: int
    time: str
    expires: str = ""

    @property
    def source(self) -> str:
        """Where the sentence comes from, in words."""
        until = f", until {self.expires}" if self.expires else ""
        return f"conversation {self.conversation}, turn {self.turn}, {self.time}{until}"


class MemoryStore:
    """The sentences in one file. Raises: ValueError for a file that is not one of these, is locked, or can't be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connect():  # a wrong file is an error now, not in the middle of a conversation
            pass

    def add(
        self,
        text: str,
        conversation: str,
        turn: int,
        time: datetime,
        expires: datetime | None = None,
        instead_of: Collection[int] = (),
    ) -> Memory:
        """Remember a sentence; `instead_of` are the numbers of those that it replaces, which are deleted.

        Raises: ValueError for an empty or too long sentence, and where there are too many.
        """
        text = clean_sentence(text)
        with self._connect() as connection:
            connection.execute("BEGIN IMMEDIATE")
            n_deleted = _delete(connection, instead_of)
            [(n_memories,)] = connection.execute("SELECT count(*) FROM memories")
            if n_memories >= MAX_MEMORIES:
                raise ValueError(f"memory is full; found {n_memories} sentences; forget some (/forget N).")
            values = (text, conversation, turn, _format(time), _format(expires) if expires else None)
            cursor = connection.execute(
                "INSERT INTO memories (text, conversation, turn, time, expires) VALUES (?, ?, ?, ?, ?)", values
            )
            connection.execute("COMMIT")
            if n_deleted:
                _erase(connection)
        return Memory(int(cursor.lastrowid or 0), *values[:4], values[4] or "")

    def list_memories(self, now: datetime) -> list[Memory]:
        """Return what is remembered, oldest first, and delete what has expired."""
        with self._connect() as connection:
            expired = connection.execute("SELECT number FROM memories WHERE expires <= ?", (_format(now),)).fetchall()
            if expired:
                _delete(connection, [number for (number,) in expired])
                _erase(connection)
            rows = connection.execute(
                "SELECT number, text, conversation, turn, time, coalesce(expires, '') FROM memories ORDER BY number"
            ).fetchall()
        return [Memory(*row) for row in rows]

    def forget(self, numbers: Collection[int] | None = None) -> int:
        """Delete sentences by their numbers (None: all of them) from every file. Return how many there were."""
        with self._connect() as connection:
            n_deleted = (
                connection.execute("DELETE FROM memories").rowcount if numbers is None else _delete(connection, numbers)
            )
            _erase(connection)
        return n_deleted

    @contextmanager
    def _connect(self) -> Generator[sqlite3.Connection]:
        connection: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(self.path, timeout=TIMEOUT_SECONDS, isolation_level=None)
            _prepare_file(connection, self.path)
            yield connection
        except sqlite3.Error as error:
            raise ValueError(
                f"--memory can't be used; found {self.path}: {error}; name another file, or wait for the process that uses it."
            ) from error
        except OSError as error:
            raise ValueError(
                f"--memory can't be used; found {self.path}: {error.strerror}; name a file that can be written."
            ) from error
        finally:
            if connection is not None:
                connection.close()


def clean_sentence(text: str) -> str:
    """Return a sentence on one line without control characters. Raises: ValueError for an empty or too long one."""
    text = " ".join(_CONTROL.sub(" ", text).encode("utf-8", "replace").decode().split())
    if not text or len(text) > MAX_CHARS:
        raise ValueError(f"a sentence to remember has 1 to {MAX_CHARS} characters; found {len(text)}; shorten it.")
    return text


def _prepare_file(connection: sqlite3.Connection, path: Path) -> None:
    for pragma in ("secure_delete = ON", "temp_store = MEMORY", "journal_mode = WAL", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    [(kind,)] = connection.execute("PRAGMA application_id")
    if kind == APPLICATION_ID:
        return
    connection.execute("BEGIN IMMEDIATE")  # of two processes that begin, one makes the table
    [(kind,)] = connection.execute("PRAGMA application_id")
    [(n_tables,)] = connection.execute("SELECT count(*) FROM sqlite_master")
    if kind != APPLICATION_ID and n_tables:
        raise ValueError(f"--memory names a file of something else; found the database {path}; name another file.")
    if kind != APPLICATION_ID:
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def _delete(connection: sqlite3.Connection, numbers: Collection[int]) -> int:
    return sum(
        connection.execute("DELETE FROM memories WHERE number = ?", (number,)).rowcount
        for number in dict.fromkeys(numbers)
    )


def _erase(connection: sqlite3.Connection) -> None:
    """Overwrite the remains of deleted rows. Raises: ValueError if another process keeps the log in use."""
    connection.execute("VACUUM")
    [(is_busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if is_busy:
        raise ValueError("forgotten, but not yet erased: found another process that reads the memory; repeat /forget.")


def _format(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
