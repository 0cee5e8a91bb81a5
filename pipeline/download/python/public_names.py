"""Find the public name of each symbol: `numpy.linalg.norm`, not `numpy.linalg._linalg.norm`.

In: what each module of a distribution defines and re-exports according to its source. Out: for each module and top-level name
the best import path. A path counts where a package's `__init__` imports the name, or a module lists it in `__all__`, or a
public module star-imports a private one. Best: no private part, then fewest parts, then the name it was defined under, then the
shortest, then alphabetical. Time: O(n) in the number of exported names.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.download.python.docstrings import Exports

Definition: TypeAlias = tuple[str, str]  # module, top-level name
# Public names that are set at run time, which the source does not show.
ALIASES = {
    "posix": "os",
    "nt": "os",
    "posixpath": "os.path",
    "genericpath": "os.path",
    "_pyio": "io",
    "_pydatetime": "datetime",
    "torch._C._VariableFunctions": "torch",
    "torch._C.TensorBase": "torch.Tensor",
}
FOREIGN = ("ntpath",)  # re-exports for another platform, which would be the shorter names
MAX_DEPTH = 30  # of chained re-exports


@dataclass(frozen=True)
class Module:
    """What one module defines and re-exports."""

    is_package: bool
    exports: Exports
    defined: frozenset[str]


class PublicNames:
    """The public names of one distribution's symbols."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self.modules = modules
        self._definitions: dict[tuple[str, str], Definition | None] = {}
        self._best: dict[Definition, str] = {}
        self._chosen: dict[Definition, str] = {}
        for module in sorted(set(modules).difference(FOREIGN)):
            for name in sorted(self._find_reexports(module)):
                definition = self._find_definition(module, name, 0)
                if definition is not None:
                    self._offer(definition, f"{ALIASES.get(module, module)}.{name}")

    def get_name(self, module: str, qualname: str) -> str:
        """Return the best public name; the module's own name where `qualname` is empty."""
        if not qualname:
            return module
        if module == "builtins":
            return qualname
        top, dot, rest = qualname.partition(".")
        key = (module, top)
        if key not in self._chosen:
            own = f"{ALIASES.get(module, module)}.{top}"
            called = _get_called_name(top)
            best = min(own, self._best.get(key, own), key=lambda path: _rank(path, called))
            self._chosen[key] = ALIASES.get(f"{module}.{top}", best)
        return self._chosen[key] + dot + rest

    def _offer(self, definition: Definition, path: str) -> None:
        before = self._best.get(definition)
        called = _get_called_name(definition[1])
        if before is None or _rank(path, called) < _rank(before, called):
            self._best[definition] = path

    def _find_reexports(self, name: str) -> Set[str]:
        """Return the names under which the module `name` re-exports something."""
        module = self.modules[name]
        listed = self._find_all(name, 0)
        if listed is not None:
            return listed
        if module.is_package:
            return {export for export in self._find_star_names(name, 0) if not export.startswith("_")}
        private = [star for star in module.exports.stars if is_private(star) and not is_private(name)]
        return {export for star in private for export in self._find_star_names(star, 1)}

    def _find_all(self, name: str, depth: int) -> Set[str] | None:
        """Return the module's `__all__`, or None where it is not a literal."""
        exports = self.modules[name].exports
        if exports.listed_from in self.modules and depth < MAX_DEPTH:
            return self._find_all(exports.listed_from, depth + 1)
        return None if exports.listed is None else set(exports.listed)

    def _find_star_names(self, name: str, depth: int) -> Set[str]:
        """Return the names that a star import of the module binds."""
        if name not in self.modules or depth > MAX_DEPTH:
            return set()
        listed = self._find_all(name, depth)
        if listed is not None:
            return listed
        module = self.modules[name]
        stars = [self._find_star_names(star, depth + 1) for star in module.exports.stars]
        own = set(module.defined).union(module.exports.names, module.exports.instances, *stars)
        return {export for export in own if not export.startswith("_")}

    def _find_definition(self, module: str, name: str, depth: int) -> Definition | None:
        """Return where a name that `module` exports is defined in this distribution."""
        key = (module, name)
        if key not in self._definitions:
            self._definitions[key] = None  # a cycle of re-exports ends here
            self._definitions[key] = self._search(module, name, depth)
        return self._definitions[key]

    def _search(self, module: str, name: str, depth: int) -> Definition | None:
        if module not in self.modules or depth > MAX_DEPTH:
            return None
        defined, exports = self.modules[module].defined, self.modules[module].exports
        if name in defined:
            return module, name
        if exports.instances.get(name) in defined:
            return module, exports.instances[name]
        if name in exports.names:
            origin, original = exports.names[name]
            return self._find_definition(origin, original, depth + 1)
        for star in reversed(exports.stars):
            definition = self._find_definition(star, name, depth + 1)
            if definition is not None:
                return definition
        return None


def is_alias(module: str, qualname: str) -> bool:
    """Return whether the symbol belongs to a module or class with another public name."""
    return module in ALIASES or f"{module}.{qualname.partition('.')[0]}" in ALIASES


def _get_called_name(name: str) -> str:
    """Return the name that users call: of scipy's class `norm_gen` that of its instance, `norm`."""
    return name.removesuffix("_gen")


def is_private(path: str) -> bool:
    """Return whether a part of a dotted name begins with an underscore."""
    return path.startswith("_") or "._" in path


def _rank(path: str, name: str) -> tuple[bool, int, bool, int, str]:
    return is_private(path), path.count("."), path.rpartition(".")[2] != name, len(path), path
