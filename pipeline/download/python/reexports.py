"""The public name of each symbol: `numpy.linalg.norm`, not `numpy.linalg._linalg.norm`.

In: what each module of a distribution defines and re-exports, as its source says. Out: for each module and top-level name
the best path a person would import it by. A path counts where a package's `__init__` imports the name, or a module lists
it in `__all__`, or a public module star-imports a private one. Best: no private part, then fewest parts, then the name it
was defined under, then the shortest, then alphabetical. Order n in the number of exported names.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.download.python.docstrings import Exports

Definition: TypeAlias = tuple[str, str]  # module, top-level name
# What only running the package would tell: the name that people know the module or class by.
ALIASES = {
    "posixpath": "os.path",
    "genericpath": "os.path",
    "_pyio": "io",
    "_pydatetime": "datetime",
    "torch._C._VariableFunctions": "torch",
    "torch._C.TensorBase": "torch.Tensor",
}
MAX_DEPTH = 30  # of chained re-exports


@dataclass(frozen=True)
class Module:
    is_package: bool
    exports: Exports
    defined: frozenset[str]


class PublicNames:
    """Public names of one distribution's symbols."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self.modules = modules
        self._found: dict[tuple[str, str], Definition | None] = {}
        self._best: dict[Definition, str] = {}
        self._chosen: dict[Definition, str] = {}
        for module in sorted(modules):
            for name in sorted(self._shown(module)):
                definition = self._origin(module, name, 0)
                if definition is not None:
                    self._offer(definition, f"{ALIASES.get(module, module)}.{name}")

    def of(self, module: str, qualname: str) -> str:
        """The best public name; the module's own name where `qualname` is empty."""
        if not qualname:
            return module
        top, dot, rest = qualname.partition(".")
        key = (module, top)
        if key not in self._chosen:
            own = f"{ALIASES.get(module, module)}.{top}"
            best = min(own, self._best.get(key, own), key=lambda path: _rank(path, top))
            self._chosen[key] = ALIASES.get(f"{module}.{top}", best)
        return self._chosen[key] + dot + rest

    def _offer(self, definition: Definition, path: str) -> None:
        before = self._best.get(definition)
        if before is None or _rank(path, definition[1]) < _rank(before, definition[1]):
            self._best[definition] = path

    def _shown(self, name: str) -> Set[str]:
        """The names by which `name` re-exports something."""
        module = self.modules[name]
        listed = self._listed(name, 0)
        if listed is not None:
            return listed
        if module.is_package:
            return {shown for shown in self._visible(name, 0) if not shown.startswith("_")}
        private = [star for star in module.exports.stars if _is_private(star) and not _is_private(name)]
        return {shown for star in private for shown in self._visible(star, 1)}

    def _listed(self, name: str, depth: int) -> Set[str] | None:
        exports = self.modules[name].exports
        if exports.listed_from in self.modules and depth < MAX_DEPTH:
            return self._listed(exports.listed_from, depth + 1)
        return None if exports.listed is None else set(exports.listed)

    def _visible(self, name: str, depth: int) -> Set[str]:
        """The names a star import of the module gives."""
        if name not in self.modules or depth > MAX_DEPTH:
            return set()
        listed = self._listed(name, depth)
        if listed is not None:
            return listed
        module = self.modules[name]
        stars = [self._visible(star, depth + 1) for star in module.exports.stars]
        own = set(module.defined).union(module.exports.names, module.exports.instances, *stars)
        return {shown for shown in own if not shown.startswith("_")}

    def _origin(self, module: str, name: str, depth: int) -> Definition | None:
        """Where a name that `module` shows is defined in this distribution."""
        key = (module, name)
        if key not in self._found:
            self._found[key] = None  # a circle of re-exports ends here
            self._found[key] = self._search(module, name, depth)
        return self._found[key]

    def _search(self, module: str, name: str, depth: int) -> Definition | None:
        if module not in self.modules or depth > MAX_DEPTH:
            return None
        found = self.modules[module]
        if name in found.defined:
            return module, name
        if found.exports.instances.get(name) in found.defined:
            return module, found.exports.instances[name]
        if name in found.exports.names:
            origin, original = found.exports.names[name]
            return self._origin(origin, original, depth + 1)
        for star in reversed(found.exports.stars):
            definition = self._origin(star, name, depth + 1)
            if definition is not None:
                return definition
        return None


def is_alias(module: str, qualname: str) -> bool:
    """Whether the symbol stands in a module or class that people know by another name."""
    return module in ALIASES or f"{module}.{qualname.partition('.')[0]}" in ALIASES


def _is_private(path: str) -> bool:
    return path.startswith("_") or "._" in path


def _rank(path: str, name: str) -> tuple[bool, int, bool, int, str]:
    return _is_private(path), path.count("."), path.rpartition(".")[2] != name, len(path), path
