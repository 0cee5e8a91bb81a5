"""Find the further public names of documented symbols: inherited members, aliases, and functions that copy a docstring.

In: what each module of a distribution defines (documented or not), imports, inherits and renames. Out: for a symbol, its names
besides the one under which it is defined: `pandas.DataFrame.head` for `NDFrame.head`, `random.randint` for `Random.randint`,
`matplotlib.pyplot.plot` for `Axes.plot`. An inherited name counts where it is better known than the name of the definition (public
or shorter); other classes have the list of their ancestors instead: sympy alone has 150,000 inherited names. Nothing is imported.

Covers bases in the same distribution, for the standard library in its compiled modules too, in the order of Python's method
resolution (C3), or depth first where that fails. Does not cover members that are set at run time. Time: O(inherited members).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pipeline.download.python.definitions import Definitions
from pipeline.download.python.docstrings import Exports, Symbol
from pipeline.download.python.public_names import PublicNames, is_private

Key: TypeAlias = tuple[str, str]  # module, qualified name
BUILTINS = "builtins"
MAX_DEPTH = 30  # of chained imports, aliases and bases


@dataclass(frozen=True)
class ModuleSource:
    """What one module defines, documented or not, and how it refers to others."""

    exports: Exports
    definitions: Definitions
    symbols: Mapping[str, Symbol]  # those without a docstring have an empty `doc`


class FurtherName(NamedTuple):
    """A public name of a symbol that is documented elsewhere. `own` is the definition under that name, if there is one: it has no
    docstring, but the right signature."""

    title: str
    origin: Key
    own: Symbol | None
    n_ancestors: int = 0  # of the class that inherits it


class InheritedNames:
    """Resolve the names of one distribution."""

    def __init__(self, modules: Mapping[str, ModuleSource], names: PublicNames) -> None:
        self.modules, self.names = modules, names
        self._linear: dict[Key, tuple[Key, ...]] = {}
        self._resolved: dict[tuple[str, str], Key | None] = {}
        self._members: dict[Key, dict[str, Symbol]] = defaultdict(dict)
        for module, source in modules.items():
            for qualname, symbol in source.symbols.items():
                owner, dot, name = qualname.rpartition(".")
                if dot:
                    self._members[module, owner][name] = symbol

    def iterate_names(self) -> Iterator[FurtherName]:
        """Yield the further names, in order of modules and names. Two symbols may be offered under one name: the first counts."""
        for module in sorted(self.modules):
            definitions = self.modules[module].definitions
            for name, dotted in sorted({**definitions.aliases, **definitions.copies}.items()):
                yield from self._follow_alias(module, name, dotted)
            for name, dotted in sorted(definitions.accessors.items()):
                cls, title = self.resolve(module, dotted), self.names.get_name(module, name)
                if cls is not None and not is_private(title):
                    yield from self._name_members(title, cls)
        for module in sorted(self.modules):
            for qualname in sorted(self.modules[module].definitions.bases):
                title = self.names.get_name(module, qualname)
                if not is_private(title):
                    yield from self._name_members(title, (module, qualname))

    def list_ancestors(self, cls: Key) -> tuple[Key, ...]:
        """Return the classes that a class inherits from, in method resolution order."""
        return self.linearize(cls)[1:]

    def _follow_alias(self, module: str, name: str, dotted: str) -> Iterator[FurtherName]:
        own, owner = self.modules[module].symbols.get(name), name.rpartition(".")[0]
        title = self.names.get_name(module, name)
        if is_private(title) or (own and own.doc):
            return
        origin = (self.resolve(module, f"{owner}.{dotted}") if owner else None) or self.resolve(module, dotted)
        if origin is None or origin == (module, name):
            return
        is_setting = owner and origin[1] in self._get_bases(origin[0])  # an attribute that names a class
        if self._get_symbol(origin).doc and not is_setting:
            yield FurtherName(title, origin, own)

    def _name_members(self, title: str, cls: Key) -> Iterator[FurtherName]:
        """Yield the names below `title` that are better known than those of the members' definitions."""
        own = self._members.get(cls, {})
        taken: set[str] = set()
        for base in self.linearize(cls):
            known_as = self.names.get_name(*base)
            is_exported = known_as != ".".join(base) and not is_private(
                known_as
            )  # torch.nn.Module: its own name is the best
            is_better = not is_exported and _rank(title) < _rank(known_as)
            for name, symbol in self._members.get(base, {}).items():
                if symbol.doc and name not in taken:
                    taken.add(name)
                    if is_better:
                        key = (base[0], symbol.qualname)
                        yield FurtherName(f"{title}.{name}", key, own.get(name), len(self.linearize(cls)))

    def _get_symbol(self, key: Key) -> Symbol:
        return self.modules[key[0]].symbols[key[1]]

    def linearize(self, cls: Key) -> tuple[Key, ...]:
        """Return a class and its ancestors in method resolution order."""
        if cls not in self._linear:
            self._linear[cls] = (cls,)  # a class that inherits from itself ends here
            module, qualname = cls
            written = self.modules[module].definitions.bases.get(qualname, [])
            bases = [base for name in written if (base := self.resolve(module, name)) and base != cls]
            self._linear[cls] = (cls, *_merge([*[list(self.linearize(base)) for base in bases], bases]))
        return self._linear[cls]

    def resolve(self, module: str, dotted: str, depth: int = 0) -> Key | None:
        """Return the definition that a dotted name refers to in a module; None if it is not in this distribution."""
        if module not in self.modules or depth > MAX_DEPTH:
            return None
        key = (module, dotted)
        if key not in self._resolved:
            self._resolved[key] = None  # a cycle of imports or aliases ends here
            self._resolved[key] = self._search(module, dotted, depth)
        return self._resolved[key]

    def _search(self, module: str, dotted: str, depth: int) -> Key | None:
        source = self.modules[module]
        head, _, rest = dotted.partition(".")
        if head in source.symbols or head in source.definitions.bases:
            return self._find_member((module, head), rest, depth)
        if head in source.definitions.instances:
            return self.resolve(module, f"{source.definitions.instances[head]}.{rest}", depth + 1) if rest else None
        if head in source.definitions.aliases:
            return self.resolve(module, _join(source.definitions.aliases[head], rest), depth + 1)
        if head in source.exports.names:
            origin, original = source.exports.names[head]
            found = self.resolve(origin, _join(original, rest), depth + 1)
            return found or self._resolve_path(f"{origin}.{original}", rest, depth)
        if head in source.definitions.modules:
            return self._resolve_path(source.definitions.modules[head], rest, depth)
        stars = (self.resolve(star, dotted, depth + 1) for star in reversed(source.exports.stars))
        found = next((key for key in stars if key), None)
        return found or (self.resolve(BUILTINS, dotted, depth + 1) if module != BUILTINS else None)

    def _resolve_path(self, module: str, rest: str, depth: int) -> Key | None:
        """Return the definition of `rest` in a module; further modules may be part of it."""
        head, _, after = rest.partition(".")
        if head and after and f"{module}.{head}" in self.modules:
            return self._resolve_path(f"{module}.{head}", after, depth)
        return self.resolve(module, rest, depth + 1) if rest else None

    def _find_member(self, cls: Key, rest: str, depth: int) -> Key | None:
        """Return the definition of a member, which may be inherited or an alias of another one."""
        module, qualname = cls
        if not rest:
            return cls if qualname in self.modules[module].symbols or qualname in self._get_bases(module) else None
        name, _, after = rest.partition(".")
        for base in self.linearize(cls):
            inside = f"{base[1]}.{name}"
            if name in self._members.get(base, {}):
                return self._find_member((base[0], inside), after, depth + 1)
            alias = self.modules[base[0]].definitions.aliases.get(inside)
            if alias:
                found = self._find_member(base, alias, depth + 1) if depth < MAX_DEPTH else None
                return found or self.resolve(base[0], _join(alias, after), depth + 1)
        return None

    def _get_bases(self, module: str) -> Mapping[str, Sequence[str]]:
        return self.modules[module].definitions.bases


def _join(name: str, rest: str) -> str:
    return f"{name}.{rest}" if rest else name


def _rank(path: str) -> tuple[bool, int]:
    return is_private(path), path.count(".")


def _merge(lists: list[list[Key]]) -> list[Key]:
    """Merge linearizations as C3 does; where they contradict each other, take the first class that is left."""
    merged: list[Key] = []
    lists = [each for each in lists if each]
    while lists:
        heads = [each[0] for each in lists]
        chosen = next((head for head in heads if all(head not in each[1:] for each in lists)), heads[0])
        if chosen not in merged:
            merged.append(chosen)
        lists = [rest for each in lists if (rest := [key for key in each if key != chosen])]
    return merged
