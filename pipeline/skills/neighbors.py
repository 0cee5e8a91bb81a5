"""Names beside a name: of the same module, with the same last part elsewhere, similar ones, and ones that do not exist.

In: symbols. Out: an index that picks neighbors at random, looks up names and invents names. Memory: two indices over
the titles. Time: O(symbols) to build, O(names of a module) for a query.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from model.grounding.matching import is_about

MIN_TYPED_CHARS = 4  # a shorter name with a typo could be any name


class Subject(NamedTuple):
    """A Python name that can be asked about: `facets` are the parts of its documentation that have sections of their own."""

    title: str
    facets: tuple[str, ...] = ()
    n_mentions: int = 0


class NameIndex:
    """Symbols by title, by module and by last part."""

    def __init__(self, symbols: Iterable[Subject]) -> None:
        self.symbols = {symbol.title: symbol for symbol in symbols}
        self.titles = list(self.symbols)
        self._by_module: dict[str, list[str]] = defaultdict(list)
        self._by_tail: dict[str, list[str]] = defaultdict(list)
        for title in self.titles:
            module, _, tail = title.rpartition(".")
            self._by_tail[tail].append(title)
            if is_public(title):
                self._by_module[module].append(title)

    def pick_sibling(self, title: str, rng: Random) -> str | None:
        """Return another public name of the same module or class; None if there is none."""
        names = [name for name in self._by_module[title.rpartition(".")[0]] if name != title]
        return rng.choice(names) if names else None

    def pick_namesake(self, title: str, rng: Random) -> str | None:
        """Return a public name with the same last part in another package; None if there is none."""
        package, tail = title.partition(".")[0], title.rpartition(".")[2]
        names = [name for name in self._by_tail[tail] if name.partition(".")[0] != package and is_public(name)]
        return rng.choice(names) if names else None

    def has_answer(self, name: str) -> bool:
        """Return whether some title is about this name."""
        return any(is_about(title, name) for title in self._by_tail.get(name.rpartition(".")[2], ()))

    def has_in_package(self, name: str) -> bool:
        """Return whether the package of a dotted name has its last part anywhere: `scipy.inv`, which is scipy.linalg.inv."""
        package, _, rest = name.partition(".")
        return bool(rest) and any(
            title.partition(".")[0] == package for title in self._by_tail.get(name.rpartition(".")[2], ())
        )

    def invent_name(self, title: str, rng: Random) -> str:
        """Return a plausible name: the title's module with the last part of another title, or with words of both mixed. It may
        exist by chance: check it."""
        module, _, tail = title.rpartition(".")
        other = rng.choice(self.titles).rpartition(".")[2]
        words = [*tail.split("_"), *other.split("_")]
        rng.shuffle(words)
        invented = other if rng.random() < 0.5 else "_".join(words[: rng.randint(1, 3)])
        return f"{module}.{invented}".lstrip(".")


def is_public(title: str) -> bool:
    """Return whether no part of a dotted name is private."""
    return "._" not in "." + title


def misspell(name: str, rng: Random) -> str:
    """Return a name with one typo in its last part, if that is long enough: two letters swapped, one left out or doubled."""
    module, dot, tail = name.rpartition(".")
    places = [at for at in range(1, len(tail) - 1) if tail[at].isalpha() and tail[at + 1].isalpha()]
    if len(tail) < MIN_TYPED_CHARS or not places:
        return name
    at, sort = rng.choice(places), rng.random()
    if sort < 0.5:
        typed = tail[:at] + tail[at + 1] + tail[at] + tail[at + 2 :]
    elif sort < 0.8:
        typed = tail[:at] + tail[at + 1 :]
    else:
        typed = tail[: at + 1] + tail[at:]
    return module + dot + typed
