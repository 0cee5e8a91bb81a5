"""Decide under which names each documented symbol of a distribution becomes a document.

In: what was read from its files, its public names and its further names. Out: `SymbolLocation`s. A symbol has one document for
training text, under its best name: public before private, then the fewest parts, then the name of its definition, then the most
general class that inherits it. Its further names (inherited, aliases, copied docstrings) are for search only, since their texts are
the same; of a member that more than `MAX_INHERITED` classes share only the best name has a document. Search finds the other names
too: the locator has the definition, and that of a class its ancestors. Time: O(n log n) in the number of names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from pipeline.download.python.distributions import SourceFile
from pipeline.download.python.docstrings import UNINFORMATIVE, Parsed, Symbol, is_private_part
from pipeline.download.python.inherited_names import FurtherName, InheritedNames, Key
from pipeline.download.python.public_names import PublicNames, is_alias, is_private

ReadFile: TypeAlias = tuple[SourceFile, str, Parsed]


MAX_INHERITED = (
    12  # sympy's `evalf` has 297 names, `pandas.DataFrame.head` two; 12 give 5,000 documents of 60,000, no limit 11,000
)


class SymbolLocation(NamedTuple):
    """A symbol, the file and module that document it, and one of its names."""

    file: SourceFile
    module: str
    symbol: Symbol
    title: str
    is_search_only: bool = False


def name_symbols(read: Sequence[ReadFile], names: PublicNames, inherited: InheritedNames) -> Iterator[SymbolLocation]:
    """Yield each symbol under its best name, and for search only under its further names; no name occurs twice but by overloading
    in the source."""
    own = list(_list_definitions(read, names))
    taken = {location.title for location in own if not is_private_part(location.symbol.qualname)}
    further: dict[Key, list[FurtherName]] = defaultdict(list)
    for name in inherited.iterate_names():
        if name.title not in taken:
            taken.add(name.title)
            further[name.origin].append(name)
    for location in own:
        yield from _choose_names(location, further.pop((location.module, location.symbol.qualname), []))


def _list_definitions(read: Sequence[ReadFile], names: PublicNames) -> Iterator[SymbolLocation]:
    """Yield each symbol with the name of its definition. A symbol documented where it is defined is not taken from a stub again,
    nor from a compiled module."""
    titles: set[str] = set()
    later: list[SymbolLocation] = []
    for file, home, parsed in read:
        for symbol in parsed.symbols:
            module = symbol.module or home
            title = symbol.qualname if symbol.kind == "topic" else names.get_name(module, symbol.qualname)
            location = SymbolLocation(file, module, symbol, title)
            if symbol.module or not file.relative or is_alias(module, symbol.qualname):
                later.append(location)
            else:
                titles.add(title)
                yield location
    for location in later:
        if location.title not in titles:
            titles.add(location.title)
            yield location


def _choose_names(location: SymbolLocation, further: Sequence[FurtherName]) -> Iterator[SymbolLocation]:
    symbol = location.symbol
    is_hidden = is_private_part(symbol.qualname) or (not location.file.relative and is_private(location.title))
    order = sorted(further, key=lambda name: (_rank(name.title), name.n_ancestors, name.title))
    if not is_hidden and (not order or _rank(location.title) <= _rank(order[0].title)):
        yield location
    elif order:
        best = order.pop(0)
        yield _rename(location, best)
        if not best.n_ancestors and not is_private(location.title):
            yield location._replace(is_search_only=True)  # matplotlib.axes.Axes.plot, beside pyplot.plot
    is_common = sum(name.n_ancestors > 0 for name in further) > MAX_INHERITED
    for name in order:
        if not (name.n_ancestors and is_common):
            yield _rename(location, name)._replace(is_search_only=True)


def _rename(location: SymbolLocation, name: FurtherName) -> SymbolLocation:
    """Return the location under a further name, with the signature of the definition under that name if there is one."""
    own, symbol = name.own, location.symbol
    if own is not None:
        signature = symbol.signature if own.signature in UNINFORMATIVE else own.signature
        symbol = symbol._replace(kind=own.kind, prefix=own.prefix, signature=signature)
    return location._replace(symbol=symbol, title=name.title)


def _rank(title: str) -> tuple[bool, int]:
    return is_private(title), title.count(".")
