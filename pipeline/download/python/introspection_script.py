"""python -I -S introspection_script.py [MODULE…]: describe the compiled modules of the standard library, except for those named.

A script of its own, which builtin_docs.py runs in a child process without site-packages: it imports the modules that have no Python
source, and nothing else of ours. Out: JSON lines on standard output. The first one lists the modules; then, for each module, one
line before it is imported and one with its symbols or the error. A module that crashes the process or hangs can so be named.

Covers: public functions, classes, and the methods and documented attributes that a class itself defines. The same interpreter gives
the same bytes: names are sorted, and a signature that shows an address is left out.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import re
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

SKIPPED = ("_test", "_xx", "xx", "_ctypes_test")  # code about code
FUNCTIONS = (types.BuiltinFunctionType, types.MethodDescriptorType, types.ClassMethodDescriptorType)
ATTRIBUTES = (types.GetSetDescriptorType, types.MemberDescriptorType, property)
UNREPRESENTABLE = re.compile(r"<(unrepresentable|no value|object object at 0x)[^>]*>?")
# Types that no module has under their name.
NAMED_TYPES: dict[str, dict[str, Any]] = {"re": {"Pattern": type(re.compile("")), "Match": type(re.match("", ""))}}


def list_modules() -> list[str]:
    """Return the names of the top-level modules that have no Python source, sorted, after `NAMED_TYPES`."""
    compiled: tuple[type, ...] = (importlib.machinery.BuiltinImporter, importlib.machinery.ExtensionFileLoader)
    names: list[str] = []
    for name in sorted(sys.stdlib_module_names.union(sys.builtin_module_names)):
        if name.startswith(SKIPPED) or name in ("antigravity", "this", "__main__"):
            continue
        spec = importlib.util.find_spec(name)
        loader: Any = spec and spec.loader
        if loader in compiled or isinstance(loader, compiled):
            names.append(name)
    return [*NAMED_TYPES, *names]


def describe_module(name: str) -> Iterator[dict[str, Any]]:
    """Yield the documented public symbols of a module."""
    values: dict[str, Any] = NAMED_TYPES[name] if name in NAMED_TYPES else vars(importlib.import_module(name))
    if name not in NAMED_TYPES:
        yield make_symbol("", "module", "", "", values.get("__doc__"))
    for attribute, value in sorted(values.items()):
        if attribute.startswith("_"):
            continue
        if isinstance(value, type):
            if name in NAMED_TYPES or name == "builtins" or value.__module__ != "builtins":
                yield from describe_class(attribute, value)
        elif isinstance(value, types.BuiltinFunctionType):
            yield make_symbol(attribute, "function", "", render_signature(value, is_bound=True), value.__doc__)


def describe_class(qualname: str, cls: type) -> Iterator[dict[str, Any]]:
    """Yield a class and the public members that it defines itself; inherited ones belong to the base class."""
    yield {
        **make_symbol(qualname, "class", "", render_signature(cls, is_bound=True), cls.__doc__),
        "bases": [f"{base.__module__}.{base.__qualname__}" for base in cls.__bases__ if base is not object],
    }
    for attribute, value in sorted(vars(cls).items()):
        member = f"{qualname}.{attribute}"
        if attribute.startswith("_"):
            continue
        if isinstance(value, staticmethod | types.ClassMethodDescriptorType):
            prefix = "staticmethod " if isinstance(value, staticmethod) else "classmethod "
            signature = render_signature(getattr(cls, attribute), is_bound=True)
            yield make_symbol(member, "method", prefix, signature, value.__doc__)
        elif isinstance(value, FUNCTIONS):
            yield make_symbol(member, "method", "", render_signature(value, is_bound=False), value.__doc__)
        elif isinstance(value, ATTRIBUTES):
            yield make_symbol(member, "method", "property ", "", value.__doc__)


def make_symbol(qualname: str, kind: str, prefix: str, signature: str, doc: object) -> dict[str, Any]:
    """Return one symbol as JSON values."""
    text = doc if isinstance(doc, str) else ""
    return {"qualname": qualname, "kind": kind, "prefix": prefix, "signature": signature, "doc": text, "bases": []}


def render_signature(value: Any, *, is_bound: bool) -> str:
    """Return the signature without `self`, or an empty string where there is none."""
    try:
        signature = inspect.signature(value)
    except (ValueError, TypeError, AttributeError):  # none, or a default that names what the module lacks
        return ""
    parameters = list(signature.parameters.values())
    text = str(signature.replace(parameters=parameters if is_bound else parameters[1:]))
    text = UNREPRESENTABLE.sub("...", text)
    return "" if " at 0x" in text or "\n" in text else text


def main() -> None:
    """Write the lines to a copy of standard output; what a module prints while it is imported goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")  # of deprecated modules

        def write(line: dict[str, Any]) -> None:
            out.write(json.dumps(line) + "\n")  # ASCII: a lone surrogate is escaped
            out.flush()

        names = [name for name in list_modules() if name not in sys.argv[1:]]
        write({"modules": names})
        for name in names:
            write({"begin": name})
            try:
                write({"module": name, "symbols": list(describe_module(name))})
            except Exception as error:  # whatever an import raises
                write({"module": name, "error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
