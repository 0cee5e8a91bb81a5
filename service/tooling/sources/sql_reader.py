"""Read one SQLite file for a query that anybody may have written. Runs in a process of its own (assistant/tools/tool_process.py).

In: the file, one SQL statement, the tables that may be read (none: all), limits. Out: the rows as text, with their number.

Covers: the file is opened read-only; an authorizer lets SELECT read tables and call the listed functions, and refuses everything
else (changes, ATTACH, PRAGMA, extensions, files, raw pages); lengths, depth and operations are limited, time by a progress handler,
memory by the process, and nothing is written to disk for sorting. Does not cover: what a row says; it may be anybody's text.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from assistant.tools.tool_declaration import tool

MAX_CELL_CHARS = 200
MAX_TABLE_CHARS = 7_000  # of the whole table: a tool's result has 8,000
OPERATIONS_PER_CHECK = 1_000  # of SQLite's virtual machine, about 10 µs
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
FUNCTIONS = frozenset(
    "abs avg ceil ceiling char coalesce concat concat_ws count cume_dist current_date current_time current_timestamp "  # noqa: SIM905
    "date "
    "datetime dense_rank exp first_value floor format glob group_concat hex ifnull iif instr julianday json json_array "
    "json_array_length json_extract json_group_array json_group_object json_object json_type json_valid lag "
    "last_value lead length like likely ln log log10 log2 lower ltrim max median min mod nth_value ntile nullif octet_length "
    "percent_rank pi pow power printf quote random rank replace round row_number rtrim sign sqrt strftime string_agg substr "
    "substring subtype sum time timediff total trim trunc typeof unicode unixepoch unlikely upper -> ->>".split()
)
INTERNAL = frozenset("bytecode dbstat sqlite_dbdata sqlite_dbpage sqlite_dbptr sqlite_stmt tables_used".split())  # noqa: SIM905
# SQLite calls a WITH query by its name, too, like a view: what defines names gets no rights of views.
_DEFINES_NAMES = re.compile("with", re.IGNORECASE)
_READS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE)


@tool(effects=("reads",), max_seconds=60.0, max_memory_mb=256)
def read_database(path: str, query: str, tables: list[str], max_rows: int, max_seconds: float) -> str:
    """Run one SELECT on a SQLite file and return its rows as text."""
    deadline = time.monotonic() + max_seconds
    views = frozenset[str]() if _DEFINES_NAMES.search(query) else frozenset(tables)
    with _Connection(path, tables, views, deadline) as connection:
        try:
            cursor = connection.execute(query)
            rows = cursor.fetchmany(max_rows + 1)
        except (sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError) as error:
            raise ValueError(_explain(error, deadline, max_seconds)) from error
        if cursor.description is None:
            raise ValueError("the statement returns no rows; found no SELECT; only SELECT is allowed")
        names = [column[0] for column in cursor.description]
    return format_table(names, rows, max_rows)


@tool(effects=("reads",), max_seconds=60.0)
def describe_database(path: str, tables: list[str]) -> str:
    """Return the tables of a SQLite file with their columns, one a line."""
    lines: list[str] = []
    try:
        with _Connection(path, (), None, time.monotonic() + 30) as connection:
            found = connection.execute("select name from sqlite_schema where type in ('table', 'view') order by name")
            for (name,) in found.fetchall():
                if (not tables or name in tables) and not name.startswith("sqlite_"):
                    columns = connection.execute("select name from pragma_table_info(?)", (name,)).fetchall()
                    lines.append(f"{name}({', '.join(column for (column,) in columns)})")
    except sqlite3.Error as error:
        raise ValueError(f"{Path(path).name} can't be read; found {error}; name a SQLite file") from error
    if missing := sorted(set(tables) - {line.partition("(")[0] for line in lines}):
        raise ValueError(
            f"{Path(path).name} has no table {missing[0][:80]!r}; found {', '.join(lines)[:200] or 'none'}"
        )
    return "\n".join(lines)


def format_table(names: Sequence[str], rows: Sequence[Sequence[object]], max_rows: int) -> str:
    """Return rows as text, a line each, and how many there are, or how many of more are shown."""
    lines = [" | ".join(map(_format_cell, names))]
    n_chars = len(lines[0])
    for row in rows[:max_rows]:
        line = " | ".join(map(_format_cell, row))
        n_chars += len(line) + 1
        if n_chars > MAX_TABLE_CHARS:
            break
        lines.append(line)
    n_shown = len(lines) - 1
    if n_shown < len(rows):
        return "\n".join([*lines, f"(the first {n_shown} rows; there are more)"])
    return "\n".join([*lines, f"({n_shown} row{'' if n_shown == 1 else 's'})"])


def _format_cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    text = " ⏎ ".join(str(value).replace("|", "¦").splitlines())
    return text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"


class _Connection:
    """A connection that can read and nothing else, for one query. `views` are the names in whose definitions hidden tables may be
    read; None: for our own queries, no authorizer."""

    def __init__(self, path: str, tables: Sequence[str], views: frozenset[str] | None, deadline: float) -> None:
        self._connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
        for setting in ("query_only = on", "trusted_schema = off", "temp_store = memory", "cell_size_check = on"):
            self._connection.execute(f"pragma {setting}")
        for limit, value in LIMITS.items():
            self._connection.setlimit(limit, value)
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, OPERATIONS_PER_CHECK)
        if views is not None:
            self._connection.set_authorizer(_make_authorizer(self._list_hidden(tables), views))

    def _list_hidden(self, tables: Sequence[str]) -> frozenset[str]:
        """Return what may not be read, in lower case: raw pages, and with a list of tables all others and the schema."""
        if not tables:
            return INTERNAL
        found = [name for (name,) in self._connection.execute("select name from sqlite_schema")]
        others = {name.lower() for name in found} - {name.lower() for name in tables}
        return INTERNAL | others | {"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"}

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _make_authorizer(hidden: frozenset[str], views: frozenset[str]) -> Callable[..., int]:
    def authorize(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
        if action in _READS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:  # `source` is the view in whose definition a table is read
            is_allowed = (first or "").lower() not in hidden or source in views
            return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_OK if (second or "").lower() in FUNCTIONS else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_DENY

    return authorize


def _explain(error: BaseException, deadline: float, max_seconds: float) -> str:
    """Return what is wrong with a query, in words."""
    message = " ".join(str(error).split())[:200]
    if time.monotonic() > deadline:
        return f"the query takes longer than {max_seconds:g} seconds; ask for less"
    if "authoriz" in message or "prohibited" in message:
        return f"the query is not allowed; found {message}; only SELECT on the tables and the usual functions is"
    if isinstance(error, MemoryError) or "out of memory" in message:
        return "the query needs too much memory; ask for less"
    return f"the query is wrong; found {message}; correct it"
