"""Bound a JSON schema, so that a small model's answer ends: strings, numbers, arrays and objects without a limit get one.

In: a schema that is checked and compiles. Out: one that accepts a part of its values, so that what it generates is valid by
both. Bounds that the schema states itself stay.
Covers: everything that is not composed. Does not cover: schemas with allOf, or with a $ref, anyOf or oneOf beside other assertions:
their objects stay open, since two closed ones would contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from model.constraints.check_schema import ANNOTATIONS, LISTS, MAPS, ONE, Schema, walk

JSON = Any
MAX_STRING_CHARS = 256
MAX_ITEMS = 16
MAX_PROPERTIES = 16  # of an object whose names are free
MAX_INTEGER = 10**15 - 1
STEP = 1e-6  # of numbers: at most six decimals
FORMAT_CHARS = {
    "email": 63,
    "hostname": 63,
}  # labels and local parts have at most 63 and 64 characters, which no grammar counts
# A second 60 exists at the end of few days, of which the grammar knows nothing.
FORMAT_PATTERNS = {"time": r"^\d\d:\d\d:[0-5]", "date-time": r"^\d{4}-\d\d-\d\d.\d\d:\d\d:[0-5]"}
N_FREE_LEVELS = 3  # of values about which a schema says nothing
FREE = "minigpt-free-"  # names of the definitions that replace these


def bind_schema(schema: Schema) -> dict[str, JSON]:
    """Return the bounded schema."""
    is_composed = any(_is_composed(node) for _, node, _ in walk(schema, ""))
    bound = _rewrite(schema, lambda node: _bind(node, is_composed))
    return bound if is_composed else {**bound, "$defs": {**bound.get("$defs", {}), **_make_free_definitions()}}


def limit_formats(schema: Schema) -> dict[str, JSON]:
    """Return a schema whose formats are enforced as a whole: what the grammar leaves open is bounded."""

    def limit(node: dict[str, JSON]) -> dict[str, JSON]:
        if node.get("format") in FORMAT_CHARS:
            longest = FORMAT_CHARS[node["format"]]
            return {**node, "maxLength": min(node.get("maxLength", longest), longest)}
        if node.get("format") in FORMAT_PATTERNS and "pattern" not in node:
            return {**node, "pattern": FORMAT_PATTERNS[node["format"]]}
        return node

    return _rewrite(schema, limit)


def _is_composed(node: JSON) -> bool:
    """Return whether a schema is an intersection of several."""
    if not isinstance(node, dict):
        return False
    asserted = set(cast("Schema", node)) - set(ANNOTATIONS) - {"$defs", "definitions"}
    return "allOf" in asserted or (len(asserted) > 1 and bool(asserted & {"$ref", "anyOf", "oneOf"}))


def _rewrite(node: JSON, change: Callable[[dict[str, JSON]], dict[str, JSON]]) -> JSON:
    """Return a schema with `change` applied to each part, inner ones first. Annotations are dropped."""
    if node is True:
        return change({})
    if not isinstance(node, dict):
        return node
    changed: dict[str, JSON] = {}
    for keyword, value in cast("dict[str, JSON]", node).items():
        if keyword.startswith("x-") or keyword in ANNOTATIONS:
            continue
        if keyword in ONE:
            value = _rewrite(value, change)
        elif keyword in LISTS:
            value = [_rewrite(child, change) for child in value]
        elif keyword in MAPS:
            value = {name: _rewrite(child, change) for name, child in value.items()}
        changed[keyword] = value
    return change(changed)


def _bind(bound: dict[str, JSON], is_composed: bool) -> dict[str, JSON]:
    """Return one part of a schema with bounds."""
    if not bound:
        return {} if is_composed else _refer(N_FREE_LEVELS - 1)
    if "enum" in bound or "const" in bound:
        return bound
    kinds = bound.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds or _guess_kinds(bound)
    if "string" in kinds:
        _bind_string(bound)
    if "integer" in kinds or "number" in kinds:
        _bind_number(bound, "number" in kinds)
    if "array" in kinds:
        _bind_array(bound, is_composed)
    if "object" in kinds and not is_composed:
        _bind_object(bound)
    return bound


def _guess_kinds(node: Schema) -> list[str]:
    """Return the kinds that a schema without a type is about; values of the others stay possible and unbounded."""
    return ["object"] if "properties" in node else []


def _bind_string(node: dict[str, JSON]) -> None:
    if "maxLength" not in node and "format" not in node:
        node["maxLength"] = max(node.get("minLength", 0), MAX_STRING_CHARS)


def _bind_number(node: dict[str, JSON], is_fraction: bool) -> None:
    if "multipleOf" in node:
        return
    low = max(node.get("minimum", -MAX_INTEGER), node.get("exclusiveMinimum", -MAX_INTEGER))
    high = min(node.get("maximum", MAX_INTEGER), node.get("exclusiveMaximum", MAX_INTEGER))
    if not -MAX_INTEGER <= low <= high <= MAX_INTEGER:
        return
    if "minimum" not in node and "exclusiveMinimum" not in node:
        node["minimum"] = low
    if "maximum" not in node and "exclusiveMaximum" not in node:
        node["maximum"] = high
    if is_fraction and high - low >= 1:
        node["multipleOf"] = STEP


def _bind_array(node: dict[str, JSON], is_composed: bool) -> None:
    n_prefix = len(node.get("prefixItems", []))
    node.setdefault("maxItems", max(node.get("minItems", 0), MAX_ITEMS, n_prefix))
    if "items" not in node and not is_composed:
        node["items"] = _refer(N_FREE_LEVELS - 2)


def _bind_object(node: dict[str, JSON]) -> None:
    """Close an object that names its properties; bound the number of free ones."""
    named: dict[str, JSON] = node.get("properties", {})
    is_free = node.get("additionalProperties", True) is not False
    if "patternProperties" in node or not is_free or set(node.get("required", ())) - set(named):
        return
    if named and "additionalProperties" not in node and node.get("minProperties", 0) <= len(named):
        node["additionalProperties"] = False
        return
    node.setdefault("additionalProperties", _refer(N_FREE_LEVELS - 1))
    if set(named) <= set(node.get("required", ())):
        node.setdefault("maxProperties", max(node.get("minProperties", 0), len(named) + MAX_PROPERTIES))


def _refer(level: int) -> dict[str, JSON]:
    return {"$ref": f"#/$defs/{FREE}{level}"}


def _make_free_definitions() -> dict[str, JSON]:
    """Return the definitions of values about which a schema says nothing, one for each number of levels that may follow."""
    number = {"type": "number", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER, "multipleOf": STEP}
    scalars: list[JSON] = [{"type": "string", "maxLength": MAX_STRING_CHARS}, number, {"enum": [True, False, None]}]
    definitions: dict[str, JSON] = {f"{FREE}0": {"anyOf": scalars}}
    for level in range(1, N_FREE_LEVELS):
        inner = _refer(level - 1)
        values = {"type": "object", "additionalProperties": inner, "maxProperties": MAX_PROPERTIES}
        several = {"type": "array", "items": inner, "maxItems": MAX_ITEMS}
        definitions[f"{FREE}{level}"] = {"anyOf": [*scalars, several, values]}
    return definitions
