"""Lexical search over passages.sqlite: a name or a few words in, at most two passages as text out.

In: `numpy.linalg.norm`, `linalg.norm`, `norm`, `how to invert a matrix`. Out: lines `[title] passage`, or `No passage found.`
The first of three rankings that finds something decides: the exact title (`np.sum` is numpy.sum); titles that end in the last
parts of the name (`linalg.norm` finds numpy.linalg.norm); BM25 (Robertson & Zaragoza 2009, as SQLite's FTS5 computes it). With
40,000 titles they take 0.3 ms, 20 ms, and 2 to 80 ms.

Covers: the database is opened read-only and immutable, so nothing can be written. The query is a bound parameter, and reaches
the full-text syntax as quoted words of letters and digits only, so operators, column filters and quotes in it have no effect.
Its length and number of words are bounded. A missing or damaged file gives a text, not an exception.
Does not cover: the content of passages. It is untrusted: never execute it, and strip escape codes before you show it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

MAX_PASSAGES = 2
MAX_QUERY_CHARS = 300
MAX_WORDS = 24
NOTHING_FOUND = "No passage found."

_NAME = re.compile(r"[\w.]+")
_WORD = re.compile(r"[^\W_]+")  # as the index splits words: at everything that is not a letter or digit

# Usual abbreviations of modules; the model passes them on as the user typed them.
ALIASES = {
    "np": ("numpy",),
    "pd": ("pandas",),
    "pl": ("polars",),
    "nx": ("networkx",),
    "sp": ("sympy", "scipy"),
    "sa": ("sqlalchemy",),
    "pa": ("pyarrow",),
    "pc": ("pyarrow.compute",),
    "pq": ("pyarrow.parquet",),
    "plt": ("matplotlib.pyplot",),
    "mpl": ("matplotlib",),
    "nn": ("torch.nn",),
    "F": ("torch.nn.functional",),
    "tk": ("tkinter",),
    "st": ("hypothesis.strategies",),
}
STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and any are as at be been but by can could did do does for from get had has have how i if in into is it its "
        "me my no not of on one or our out over please should so some such than that the their them then there these they "
        "this those to up us use used using via was we were what when where which who why will with would you your"
    )
)


@dataclass(frozen=True)
class FoundPassage:
    """One search result; as text `[title] passage`."""

    title: str
    text: str

    def __str__(self) -> str:
        return f"[{self.title}] {self.text}"


class Passages:
    """One passages.sqlite. Each search opens its own connection, so threads can share the object."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # a champion that is replaced meanwhile must not change the results

    def check_schema(self) -> None:
        """Raise ValueError if an earlier version wrote the file. A missing or damaged file is left to `search_docs`."""
        if not self.path.is_file():
            return
        try:
            with closing(self._connect()) as connection:
                columns = [str(row[1]) for row in connection.execute("PRAGMA table_info(passages)")]
        except sqlite3.Error:
            return
        if columns and "license" not in columns:
            raise ValueError(
                f"{self.path} was written by an earlier version; its table passages has no column license, found "
                f"{', '.join(columns)}; run the pipeline again (make run), or: python -m pipeline.registry pull"
            )

    def search_docs(self, query: str) -> str:
        """Run the tool: return the passages found, or a text that explains why there are none. Never raises."""
        if not self.path.is_file():
            return NOTHING_FOUND
        try:
            passages = self.find(query)
        except sqlite3.Error as error:
            return f"error: the passages can't be searched ({error})"
        return "\n".join(map(str, passages)) or NOTHING_FOUND

    def find(self, query: str, limit: int = MAX_PASSAGES) -> list[FoundPassage]:
        """Return at most `limit` passages, best first. Raises: sqlite3.Error for a damaged file."""
        query = query.encode("utf-8", "ignore").decode()[:MAX_QUERY_CHARS]
        passages: dict[FoundPassage, None] = {}
        with closing(self._connect()) as connection:
            for ranking in (_find_by_title, _find_by_tail, _find_by_words):
                for passage in ranking(connection, query):
                    passages[passage] = None
                    if len(passages) == limit:
                        break
                if passages:  # a weaker match next to a better one would only mislead a small model
                    break
        return list(passages)

    def count(self) -> int:
        """Return the number of passages. Raises: sqlite3.Error for a missing or damaged file."""
        with closing(self._connect()) as connection:
            return int(connection.execute("SELECT count(*) FROM passages").fetchone()[0])

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.path.as_uri()}?mode=ro&immutable=1", uri=True)


def _extract_name(query: str) -> str:
    """Return the symbol in the query: its only word, or its longest word with a dot."""
    names = [name.strip(".") for name in _NAME.findall(query)]
    if len(names) > 1:
        names = [name for name in names if "." in name]
    return max(names, key=len, default="")


def _find_by_title(connection: sqlite3.Connection, query: str) -> Iterator[FoundPassage]:
    """Find exact titles: the whole query (titles of prose have spaces), the name in it, the name with its alias expanded."""
    name = _extract_name(query)
    head, _, rest = name.partition(".")
    titles = [query.strip(), name, *(f"{module}.{rest}" for module in ALIASES.get(head, ()) if rest)]
    sql = "SELECT title, passage FROM passages WHERE title = ? ORDER BY rowid LIMIT ?"
    for title in titles:
        yield from _read_passages(connection.execute(sql, (title, MAX_PASSAGES)))


def _find_by_tail(connection: sqlite3.Connection, query: str) -> Iterator[FoundPassage]:
    """Find the titles that share the longest tail with the name, most shared parts first, then shortest first."""
    parts = _extract_name(query).split(".")
    sql = (  # the inner query reads the index of titles alone, a tenth of the table
        "SELECT title, passage FROM passages WHERE rowid IN (SELECT rowid FROM passages "
        "WHERE title = ? COLLATE NOCASE OR title LIKE '%.' || ? ESCAPE '\\' LIMIT 200)"
    )
    for start in range(len(parts)):
        tail = ".".join(parts[start:])
        matches = list(_read_passages(connection.execute(sql, (tail, re.sub(r"([%_\\])", r"\\\1", tail)))))
        matches.sort(key=lambda passage: (-_count_shared(passage.title, parts), len(passage.title), passage.title))
        yield from matches
        if matches:
            return


def _count_shared(title: str, parts: list[str]) -> int:
    return len(set(title.lower().split(".")) & {part.lower() for part in parts})


def _find_by_words(connection: sqlite3.Connection, query: str) -> Iterator[FoundPassage]:
    """Rank with BM25 the passages that have every word; else every content word; else any content word."""
    words = [word.lower() for word in _WORD.findall(query)[:MAX_WORDS]]
    content = [word for word in words if word not in STOP_WORDS] or words
    sql = (
        "SELECT passages.title, passages.passage FROM passages_fts JOIN passages ON passages.rowid = passages_fts.rowid "
        "WHERE passages_fts MATCH ? ORDER BY bm25(passages_fts), passages.rowid LIMIT ?"
    )
    for some, operator in ((words, " AND "), (content, " AND "), (content, " OR ")):
        if not some:
            return
        try:
            match = operator.join(f'"{word}"' for word in some)
            passages = list(_read_passages(connection.execute(sql, (match, MAX_PASSAGES))))
        except sqlite3.OperationalError as error:
            if "phrase" not in str(error):  # FTS5 splits words at 21 characters that Python counts as letters
                raise
            return
        yield from passages
        if passages:
            return


def _read_passages(rows: sqlite3.Cursor) -> Iterator[FoundPassage]:
    for title, text in rows:
        yield FoundPassage(str(title), " ".join(str(text).split()))
