"""Compare the name that a question asks for with a title: exact, an alias of its module, the end of the title, a typo.

In: a title and a name as typed (`np.sum`, `linalg.norm`, `numpy.linalg.nrom`). Out: how close they are. Needs the standard
library only. Time: microseconds; the edit distance is bounded by the lengths of two names.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

# Usual abbreviations of modules, which people type instead of the module.
ALIASES = {
    "numpy": "np",
    "pandas": "pd",
    "polars": "pl",
    "networkx": "nx",
    "sympy": "sp",
    "sqlalchemy": "sa",
    "pyarrow": "pa",
    "matplotlib.pyplot": "plt",
    "torch.nn.functional": "F",
    "tkinter": "tk",
    "matplotlib": "mpl",
}
EXACT, TAIL, SIMILAR, OTHER = 3, 2, 1, 0  # closeness of a title to a name
MIN_SIMILARITY = 0.75  # of a typo's last part: nrom / norm has 0.75, sum / min 0.67
_IDENTIFIER = re.compile(r"\w+(?:\.\w+)+|\w*_\w*|\w*[a-z][A-Z]\w*|\w*[A-Za-z]\w*[0-9]\w*")


class Query(NamedTuple):
    """One search: a name or words, and the facet of the name that is asked for (`parameters`, `returns`, `axis`), if any."""

    name: str
    facet: str = ""


def split_queries(argument: str) -> list[str]:
    """Return the queries of a search argument: `A; B` compares two."""
    return [query for part in argument.split("; ") if (query := part.strip())]


def split_facet(query: str) -> Query:
    """Return name and facet of `numpy.sum: axis`. Words, and titles of prose, have no facet."""
    name, mark, facet = query.partition(": ")
    return Query(name, facet.strip()) if mark and not any(map(str.isspace, name)) else Query(query)


def is_identifier(name: str) -> bool:
    """Return whether a name can't be mistaken for a word: it has a dot, an underscore, a digit or a capital inside."""
    return _IDENTIFIER.fullmatch(name) is not None


def is_about(title: str, name: str) -> bool:
    """Return whether a passage with this title answers a question about `name`."""
    if title == name or title.endswith("." + name):
        return True
    head, _, tail = name.partition(".")
    return bool(tail) and any(alias == head and title == f"{module}.{tail}" for module, alias in ALIASES.items())


def measure_closeness(title: str, name: str) -> int:
    """Return EXACT (the same name in any case, an alias, or the end of the title), TAIL (the same last part elsewhere), SIMILAR (a
    typo of the last part) or OTHER."""
    title, name = split_facet(title).name, split_facet(name).name
    if is_about(title, name) or is_about(title.lower(), name.lower()):
        return EXACT
    last, asked = title.rpartition(".")[2].lower(), name.rpartition(".")[2].lower()
    if last == asked:
        return TAIL
    return SIMILAR if SequenceMatcher(None, last, asked).ratio() >= MIN_SIMILARITY else OTHER
