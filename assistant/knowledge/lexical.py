"""Lexical search over passages.sqlite: a name or a few words in, at most two passages as text out.

In: `numpy.linalg.norm`, `linalg.norm`, `norm`, `how to invert a matrix`. Out: lines `[title] passage`, or
`No passage found.` The exact title (`np.sum` is numpy.sum); if there is none, titles that end in the last parts of the
name (`linalg.norm` finds numpy.linalg.norm); if there are none, BM25 (Robertson & Zaragoza 2009, as SQLite's FTS5
computes it). Of 40,000 titles: 0.3 ms, 20 ms, and 2 to 80 ms.

Covers: the database is opened read-only and as unchanging, so nothing can be written; what is asked travels as a bound
parameter, and reaches the full-text syntax only as quoted words of letters, digits and underscores, so no operator, column
filter or quote in it means anything; length and number of words are bounded; a missing or damaged file is a text.
Does not cover: what the passages themselves say. They are outside text: never run them, show them without escape codes.
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
_WORD = re.compile(r"[^\W_]+")  # as the index cuts words: at everything that is no letter or digit

# What people write for a module; the model passes it on as they wrote it.
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
    title: str
    text: str

    def __str__(self) -> str:
        return f"[{self.title}] {self.text}"


class Passages:
    """One passages.sqlite. A connection lives as long as one search, so threads can share the object."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # a champion that is replaced meanwhile must not change what is found

    def search_docs(self, query: str) -> str:
        """The tool: never raises."""
        if not self.path.is_file():
            return NOTHING_FOUND
        try:
            found = self.find(query)
        except sqlite3.Error as error:
            return f"error: the passages can't be searched ({error})"
        return "\n".join(map(str, found)) or NOTHING_FOUND

    def find(self, query: str, limit: int = MAX_PASSAGES) -> list[FoundPassage]:
        """Best first. Raises: sqlite3.Error for a damaged file."""
        query = query.encode("utf-8", "ignore").decode()[:MAX_QUERY_CHARS]
        found: dict[FoundPassage, None] = {}
        with closing(self._connect()) as connection:
            for ranking in (_titled, _with_tail, _with_words):
                for passage in ranking(connection, query):
                    found[passage] = None
                    if len(found) == limit:
                        break
                if found:  # a looser match beside a closer one would only mislead the reader, who is a small model
                    break
        return list(found)

    def count(self) -> int:
        """Raises: sqlite3.Error for a missing or damaged file."""
        with closing(self._connect()) as connection:
            return int(connection.execute("SELECT count(*) FROM passages").fetchone()[0])

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.path.as_uri()}?mode=ro&immutable=1", uri=True)


def _name(query: str) -> str:
    """The symbol that is asked for: the only word, or the longest one with a dot in it."""
    names = [name.strip(".") for name in _NAME.findall(query)]
    if len(names) > 1:
        names = [name for name in names if "." in name]
    return max(names, key=len, default="")


def _titled(connection: sqlite3.Connection, query: str) -> Iterator[FoundPassage]:
    """The whole query as a title (titles of prose have spaces), the name in it, the name with its alias written out."""
    name = _name(query)
    head, _, rest = name.partition(".")
    titles = [query.strip(), name, *(f"{module}.{rest}" for module in ALIASES.get(head, ()) if rest)]
    sql = "SELECT title, passage FROM passages WHERE title = ? ORDER BY rowid LIMIT ?"
    for title in titles:
        yield from _passages(connection.execute(sql, (title, MAX_PASSAGES)))


def _with_tail(connection: sqlite3.Connection, query: str) -> Iterator[FoundPassage]:
    """Of the titles that share the longest tail, those with most parts of the name in them, then the shortest."""
    parts = _name(query).split(".")
    sql = (  # the inner query reads the index of titles alone, a tenth of the table
        "SELECT title, passage FROM passages WHERE rowid IN (SELECT rowid FROM passages "
        "WHERE title = ?1 COLLATE NOCASE OR title LIKE '%.' || ?2 ESCAPE '\\' LIMIT 200)"
    )
    for start in range(len(parts)):
        tail = ".".join(parts[start:])
        matches = list(_passages(connection.execute(sql, (tail, re.sub(r"([%_\\])", r"\\\1", tail)))))
        matches.sort(key=lambda passage: (-_n_shared(passage.title, parts), len(passage.title), passage.title))
        yield from matches
        if matches:
            return


def _n_shared(title: str, parts: list[str]) -> int:
    return len(set(title.lower().split(".")) & {part.lower() for part in parts})


def _with_words(connection: sqlite3.Connection, query: str) -> Iterator[FoundPassage]:
    """Every word; else every word that means something; else any of these: each try looks at more passages than the last."""
    words = [word.lower() for word in _WORD.findall(query)[:MAX_WORDS]]
    telling = [word for word in words if word not in STOP_WORDS] or words
    sql = (
        "SELECT passages.title, passages.passage FROM passages_fts JOIN passages ON passages.rowid = passages_fts.rowid "
        "WHERE passages_fts MATCH ? ORDER BY bm25(passages_fts), passages.rowid LIMIT ?"
    )
    for some, operator in ((words, " AND "), (telling, " AND "), (telling, " OR ")):
        if not some:
            return
        try:
            match = operator.join(f'"{word}"' for word in some)
            found = list(_passages(connection.execute(sql, (match, MAX_PASSAGES))))
        except sqlite3.OperationalError as error:
            if "phrase" not in str(error):  # FTS5 cuts a word at 21 letters that Python counts as letters
                raise
            return
        yield from found
        if found:
            return


def _passages(rows: sqlite3.Cursor) -> Iterator[FoundPassage]:
    for title, text in rows:
        yield FoundPassage(str(title), " ".join(str(text).split()))
