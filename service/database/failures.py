"""What a database's failures mean: one ServiceError for each kind, with what to do; other errors are faults of the program.

A message names the database without its password, and never repeats what the driver wrote, which can hold a row's values.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.service_error import ServiceError

RETRY_SECONDS = 1.0
_FREE_SPACE = ("database_full", "a full disk", "free space on its disk; what was acknowledged is kept")
_READ_ONLY = ("database_read_only", "a read-only file or server", "make it and its folder writable")
_BUSY = ("database_busy", "a lock of another transaction", "repeat the request")
_BROKEN = ("database_corrupted", "a damaged file", "stop the service and restore a backup")
_UNREADABLE = (
    "database_unreachable",
    "a file or server that can't be opened",
    "check its path or address, and who may use it",
)
_IO = ("database_io", "a disk that does not answer", "check the disk and the system's log")
_FULL_POOL = ("database_busy", "no free connection", "repeat the request")
_NEW_TRANSACTION = ("database_busy", "a conflict with another transaction", "repeat the request")

_BY_SQLITE_CODE = {  # primary result codes, https://sqlite.org/rescode.html
    5: _BUSY,
    6: _BUSY,
    8: _READ_ONLY,
    10: _IO,
    11: _BROKEN,
    13: _FREE_SPACE,
    14: _UNREADABLE,
    26: _BROKEN,
}
_BY_SQLSTATE = {  # PostgreSQL's codes, by their beginning
    "08": _UNREADABLE,
    "25006": _READ_ONLY,
    "28": _UNREADABLE,
    "3D": _UNREADABLE,
    "40": _NEW_TRANSACTION,
    "53100": _FREE_SPACE,
    "53": _FULL_POOL,
    "55P03": _BUSY,
    "57014": _BUSY,
    "57P": _UNREADABLE,
    "58": _IO,
    "XX001": _BROKEN,
    "XX002": _BROKEN,
}


def explain_failure(error: SQLAlchemyError | sqlite3.Error | OSError, name: str) -> ServiceError | None:
    """Return the error for the caller: 503 with what to do, or None for a fault of the program (a broken constraint, wrong SQL)."""
    if isinstance(error, PoolTimeoutError):
        return make_error(name, *_FULL_POOL)
    if isinstance(error, OSError):
        return make_error(name, *(_FREE_SPACE if error.errno == 28 else _UNREADABLE))
    original = error.orig if isinstance(error, DBAPIError) else error
    kind = _classify_sqlite(original) if isinstance(original, sqlite3.Error) else _classify_postgres(error, original)
    return make_error(name, *kind) if kind is not None else None


def make_error(name: str, code: str, found: str, action: str) -> ServiceError:
    """Return a 503 in three parts."""
    return ServiceError(
        503, f"database: can't be used; found {found} ({name}); {action}.", code=code, retry_after=RETRY_SECONDS
    )


def _classify_sqlite(error: sqlite3.Error) -> tuple[str, str, str] | None:
    code = getattr(error, "sqlite_errorcode", None)
    return _BY_SQLITE_CODE.get(code & 0xFF) if isinstance(code, int) else None


def _classify_postgres(error: Exception, original: object) -> tuple[str, str, str] | None:
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        matches = [prefix for prefix in _BY_SQLSTATE if state.startswith(prefix)]
        return _BY_SQLSTATE[max(matches, key=len)] if matches else None
    lost = isinstance(error, DBAPIError) and (
        error.connection_invalidated or type(original).__name__ in ("OperationalError", "ConnectionTimeout")
    )
    return _UNREADABLE if lost else None
