"""Find the symbol that a name means: as it is documented, or as people type it.

In: a name as typed (`numpy.linalg.norm`, `np.sum()`, `norm`, `json.dumps???`). Out: the units that it may mean, best first, and how
they were matched. The first way that finds something decides:

    exact      the title, or the name under which it is defined (`numpy._core.fromnumeric.sum`)
    alias      a usual abbreviation of a module: `np.sum` is numpy.sum
    case       the same name in other case
    tail       titles that end in the name: `linalg.norm`, `norm`
    inherited  an ancestor documents the method: `DataFrame.head`
    package    a package and the last part: `scipy.inv` is scipy.linalg.inv
    variable   the first part is a usual name of a variable: `df.head` is pandas.DataFrame.head
    member     the first part is a variable that no package is called: `clf.fit`
    typo       the closest names within an edit or two

Time: 0.1 ms, and 5 ms to look for typos among 60,000 names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from model.grounding.matching import is_identifier
from model.retrieval.segment import Segment

# Usual abbreviations of modules; the model passes them on as the user typed them.
MODULE_ALIASES = {
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
    "dt": ("datetime", "pandas.Series.dt"),
}
# What people call a variable of a class whose methods they ask about.
VARIABLES = {
    "df": ("pandas.DataFrame", "polars.DataFrame"),
    "series": ("pandas.Series", "polars.Series"),
    "arr": ("numpy.ndarray",),
    "array": ("numpy.ndarray",),
    "ax": ("matplotlib.axes.Axes",),
    "fig": ("matplotlib.figure.Figure",),
    "tensor": ("torch.Tensor",),
    "graph": ("networkx.Graph",),
    "G": ("networkx.Graph",),
    "lst": ("list",),
    "string": ("str",),
    "d": ("dict",),
    "session": ("sqlalchemy.orm.Session",),
}
WAYS = ("exact", "alias", "case", "tail", "inherited", "package", "variable", "member", "typo")
MAX_MATCHES = 200  # that are ranked
MAX_NAME_CHARS = 200
_TYPED = re.compile(r"[@.\s]*(?P<name>[^\W\d]\w*(?:\s?\.\s?[^\W\d]\w*)*)\s*(?:\(.*\)?)?[\s?!.,;:]*", re.DOTALL)
_TOKEN = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_EDGES = " \t\n\"'`“”‘’"


class Match(NamedTuple):
    """What a name may mean: rows of units, best first, and how they were matched; no rows and `unknown` if it means nothing."""

    name: str
    how: str
    rows: list[int]


def clean_name(query: str) -> str:
    """Return the name that a query consists of, without call, quotation marks and punctuation around it; "" if it is no name."""
    match = _TYPED.fullmatch(query.strip(_EDGES)[:MAX_NAME_CHARS])
    return re.sub(r"\s", "", match["name"]) if match else ""


def find_identifiers(query: str) -> list[str]:
    """Return the tokens of a query in words that can only be names: with a dot, an underscore or a capital inside."""
    return [token for token in dict.fromkeys(_TOKEN.findall(query)) if is_identifier(token)]


class NameResolver:
    """Resolves names among the units of one segment."""

    def __init__(self, segment: Segment) -> None:
        self._segment, self._sections, self._names = segment, segment.sections, segment.names

    @cached_property
    def _heads(self) -> frozenset[str]:
        """The first parts of all titles: packages, modules and built-ins."""
        titles = self._sections.column("title")[: self._sections.n_units]
        return frozenset(str(title).partition(".")[0].lower() for title in titles)

    def resolve(self, name: str, *, with_typos: bool = True) -> Match:
        """Return the meaning of a cleaned name."""
        for how, rows in self._try_ways(name, with_typos):
            if rows:
                return Match(name, how, self._rank(name, rows))
        return Match(name, "unknown", [])

    def _try_ways(self, name: str, with_typos: bool) -> Iterator[tuple[str, Iterable[int]]]:
        rows = self._names.find(name)
        yield (
            "exact",
            [row for row in rows if self._get_title(row) == name or self._get_title(row).lower() != name.lower()],
        )
        expanded = list(_expand(name))
        yield "alias", [row for other in expanded for row in self._names.find(other)]
        yield "case", rows
        yield "tail", self._names.find_ending(name)[:MAX_MATCHES]
        for other in (name, *expanded):
            yield "inherited", self._find_inherited(other)
        for other in (name, *expanded):
            yield "package", self._find_in_package(other)
        head, _, rest = name.partition(".")
        for owner in VARIABLES.get(head, ()) if rest else ():
            yield "variable", self._names.find(f"{owner}.{rest}") or self._find_inherited(f"{owner}.{rest}")
        if rest and head.lower() not in self._heads and head not in MODULE_ALIASES:
            tail = rest.rpartition(".")[2]
            yield "member", self._names.find_ending(rest)[:MAX_MATCHES] or self._names.find_ending(tail)[:MAX_MATCHES]
        if with_typos:
            for other in (*expanded, name):
                yield "typo", [row for row, _ in self._names.find_similar(other, _count_edits(other))[:MAX_MATCHES]]

    def _find_inherited(self, name: str) -> list[int]:
        owner, _, method = name.rpartition(".")
        if not owner:
            return []
        for row in self._rank(owner, self._names.find(owner) or self._names.find_ending(owner)[:MAX_MATCHES])[:3]:
            for base in self._segment.list_bases(row):
                if rows := self._names.find(f"{self._get_title(base)}.{method}"):
                    return rows
        return []

    def _find_in_package(self, name: str) -> list[int]:
        head, _, rest = name.partition(".")
        tail = rest.rpartition(".")[2]
        rows = self._names.find_ending(tail)[:MAX_MATCHES] if tail else []
        return [row for row in rows if self._get_title(row).lower().startswith(f"{head.lower()}.")]

    def _rank(self, name: str, rows: Iterable[int]) -> list[int]:
        """Return rows best first: same case, public, most parts shared, most often mentioned, shallow, short."""
        parts = set(name.lower().split("."))

        def measure(row: int) -> tuple[object, ...]:
            title = self._get_title(row)
            return (
                not title.endswith(name),
                "._" in f".{title}",
                -len(parts & set(title.lower().split("."))),
                title[:1].lower() != name[:1].lower() and "." in name,
                -int(self._sections.value("n_mentions", row)),
                title.count("."),
                len(title),
                title,
            )

        return sorted(dict.fromkeys(rows), key=measure)

    def _get_title(self, row: int) -> str:
        return str(self._sections.value("title", row))


def _expand(name: str) -> Iterator[str]:
    head, _, rest = name.partition(".")
    for module in MODULE_ALIASES.get(head, ()):
        yield f"{module}.{rest}" if rest else module


def _count_edits(name: str) -> int:
    """Return how many edits a name of this length may be away from the one that is meant."""
    return 0 if len(name) < 4 else 1 if len(name) < 8 else 2
