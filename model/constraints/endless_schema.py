"""Find schemas whose every value is endless: a node that requires another node of the same kind, and so on.

In: a schema whose keywords are checked. Out: the path of the reference that never ends, if there is one. Its grammar would
compile and then allow nothing. Least fixed point: a schema is finite if what it requires is finite.
Time: schemas × the longest chain of references, at most `MAX_PASSES`.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import unquote

from model.constraints.check_schema import Schema, walk

JSON = Any
MAX_PASSES = 64


def find_endless_reference(schema: Schema, root: str) -> str:
    """Return the path of the first reference without a finite value, empty if all have one."""
    nodes = [(path, node) for path, node, _ in walk(schema, root) if isinstance(node, dict)]
    targets = {id(node): _resolve(schema, node["$ref"]) for _, node in nodes if isinstance(node.get("$ref"), str)}
    finite: set[int] = set()
    for _ in range(MAX_PASSES):
        n_before = len(finite)
        for _, node in reversed(nodes):  # inner ones first
            if id(node) not in finite and _is_finite(node, finite, targets):
                finite.add(id(node))
        if id(schema) in finite:
            return ""
        if len(finite) == n_before:
            break
    return next((path for path, node in nodes if "$ref" in node and id(node) not in finite), "")


def _is_finite(node: dict[str, JSON], finite: set[int], targets: dict[int, JSON]) -> bool:
    """Return whether a schema has a value that ends, as far as known. What is no schema is left to the compiler."""
    if "enum" in node or "const" in node:
        return True

    def ends(child: JSON) -> bool:
        return id(child) in finite or not isinstance(child, dict)

    if id(node) in targets and not ends(targets[id(node)]):
        return False
    if not all(map(ends, node.get("allOf", ()))):
        return False
    if any(not any(map(ends, node[name])) for name in ("anyOf", "oneOf") if name in node):
        return False
    kinds: JSON = node.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or not set(cast("list[str]", kinds)) <= {"object", "array"}:
        return True  # a number will do
    if "object" in kinds and all(ends(node.get("properties", {}).get(name)) for name in _list_required(node)):
        return True
    return "array" in kinds and all(map(ends, _list_first_items(node)))


def _list_required(node: dict[str, JSON]) -> list[str]:
    required: JSON = node.get("required", [])
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _list_first_items(node: dict[str, JSON]) -> list[JSON]:
    """Return the schemas of the items that an array must have."""
    n_items, prefix = int(node.get("minItems", 0)), node.get("prefixItems", [])
    return [*prefix[:n_items], *([node.get("items")] if n_items > len(prefix) else [])]


def _resolve(schema: Schema, reference: str) -> JSON:
    """Return what a reference inside the schema refers to, None for nothing."""
    value: JSON = schema
    for part in reference.removeprefix("#").split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = cast("dict[str, JSON]", value).get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(cast("list[JSON]", value)):
            value = value[int(key)]
        else:
            return None
    return value
