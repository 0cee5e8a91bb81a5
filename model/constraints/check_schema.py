"""Check a JSON schema before it becomes a grammar: its size, its depth, and that every keyword is one that the grammar expresses.

A keyword that is ignored in silence is a constraint that fails open, so unknown ones are refused, except for annotations and
names that begin with `x-`. Errors name the path and the keyword: `schema.properties.age.uniqueItems`.
Covers: keywords of JSON Schema 2020-12 that llguidance implements. Does not cover: what only the compiler finds
(contradictions, regular expressions); `locate_error` finds where that is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from time import thread_time
from typing import Any, cast

JSON = Any
Schema = Mapping[str, JSON]

MAX_CHARS = 120_000  # of a schema's JSON; OpenAI's limit
MAX_DEPTH = 32
MAX_SUBSCHEMAS = 1_000  # 0.6 s of compiling
MAX_NUMBER = 2**53  # what every JSON reader takes exactly
MAX_REGEX_CHARS = 2_000
MAX_MULTIPLE = (
    10_000  # the least common multiple of all multipleOf: 20 ms, ten times as much takes a hundred times as long
)
MAX_REGEX_SIZE = (
    5_000  # of all together: characters after counted repetitions are written out: `(a{100}){100}` is 10,000
)
LOCATE_SECONDS = 0.2  # of processor time to find where an error is: 400 parts of the usual size

ONE = ("items", "additionalProperties")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
MAPS = ("properties", "patternProperties", "$defs", "definitions")
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
SIZES = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
OTHERS = ("type", "enum", "const", "required", "pattern", "format", "$ref")
ANNOTATIONS = (
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "discriminator",
)
SUPPORTED = frozenset((*ONE, *LISTS, *MAPS, *NUMBERS, *SIZES, *OTHERS))


class ConstraintError(ValueError):
    """A constraint that can't be compiled. `path` is where, `keyword` is what, both empty if that is unknown."""

    def __init__(self, message: str, path: str = "", keyword: str = "") -> None:
        super().__init__(message)
        self.path, self.keyword = path, keyword


def check_schema(schema: JSON, root: str) -> None:
    """Raise ConstraintError for a schema that is too large or has a keyword that would not be enforced."""
    try:
        n_chars = len(json.dumps(schema, ensure_ascii=True, allow_nan=False))
    except RecursionError:
        raise _error(root, "", "is nested too deeply", "more than 1,000 levels", "flatten it") from None
    except (TypeError, ValueError) as error:
        raise _error(root, "", "must be JSON", str(error), "correct it") from None
    if n_chars > MAX_CHARS:
        raise _error(root, "", f"may have {MAX_CHARS:,} characters", f"{n_chars:,}", "shorten it")
    if not isinstance(schema, dict):
        raise _error(root, "", "must be an object", type(schema).__name__, "give a JSON schema")
    multiple = size = 1
    for number, (path, node, depth) in enumerate(walk(schema, root)):
        if number > MAX_SUBSCHEMAS:
            raise _error(root, "", f"may have {MAX_SUBSCHEMAS:,} subschemas", "more", "simplify it")
        if depth > MAX_DEPTH:
            raise _error(path, "", f"may be {MAX_DEPTH} levels deep", "more", "flatten it, or use $ref")
        _check_node(path, node)
        if isinstance(node, dict):
            size += measure_regex(node.get("pattern", ""))
            multiple = math.lcm(multiple, _scale(node.get("multipleOf", 1)))
        if size > MAX_REGEX_SIZE:
            raise _error(
                path, "pattern", f"may stand for {MAX_REGEX_SIZE:,} characters in all", f"{size:,}", "repeat less"
            )
        if multiple > MAX_MULTIPLE:
            found = f"a common multiple of {multiple:,}" if multiple < 10**12 else "far more"
            raise _error(path, "multipleOf", f"may be {MAX_MULTIPLE:,} in all", found, "use other numbers")


def walk(schema: Schema, path: str, depth: int = 0) -> Iterator[tuple[str, JSON, int]]:
    """Yield (path, subschema, depth) of a schema and all that it contains, outer ones first."""
    pending: list[tuple[str, JSON, int]] = [(path, schema, depth)]
    while pending:
        path, node, depth = pending.pop()
        yield path, node, depth
        pending += reversed([(where, child, depth + 1) for where, child in list_children(node, path)])


def list_children(node: JSON, path: str) -> list[tuple[str, JSON]]:
    """Return the paths and values of the subschemas directly in a schema."""
    if not isinstance(node, dict):
        return []
    node = cast("dict[str, JSON]", node)
    children = [(f"{path}.{name}", node[name]) for name in ONE if name in node]
    for name in LISTS:
        if isinstance(listed := node.get(name), list):
            children += [(f"{path}.{name}[{n}]", child) for n, child in enumerate(cast("list[JSON]", listed))]
    for name in MAPS:
        if isinstance(named := node.get(name), dict):
            children += [(f"{path}.{name}.{key[:80]}", child) for key, child in cast("dict[str, JSON]", named).items()]
    return children


def _check_node(path: str, node: JSON) -> None:
    if isinstance(node, bool):
        return
    if not isinstance(node, dict):
        raise _error(path, "", "must be a schema", type(node).__name__, "give an object, true or false")
    for keyword, value in cast("dict[str, JSON]", node).items():
        if keyword not in SUPPORTED and keyword not in ANNOTATIONS and not keyword.startswith("x-"):
            raise _error(path, keyword, "is not supported", _show(value), "remove it, or express it otherwise")
        if keyword == "x-guidance":
            raise _error(path, keyword, "is not accepted", _show(value), "remove it")
        if keyword in LISTS and not (isinstance(value, list) and value):
            raise _error(path, keyword, "must be a list of schemas", _show(value), "give at least one")
        if keyword in MAPS and not isinstance(value, dict):
            raise _error(path, keyword, "must be an object", _show(value), "give names and schemas")
        if keyword in NUMBERS or keyword in SIZES:
            _check_number(path, keyword, value)
        if keyword == "minProperties" and isinstance(value, int) and value > max(1, _count(node.get("required"))):
            advice = "name the properties and require them"
            raise _error(path, keyword, "can't be enforced where names are free", _show(value), advice)
        if keyword == "$ref" and not (isinstance(value, str) and (value == "#" or value.startswith("#/"))):
            raise _error(path, keyword, "must refer to this schema", _show(value), "begin it with #/ and use $defs")
        if keyword == "pattern":
            check_regex(value, f"{path}.pattern", keyword)


def _scale(number: float) -> int:
    """Return the digits of a number as an integer: 25 of 0.25, 300 of 300."""
    digits = Decimal(repr(number)).normalize().as_tuple()
    exponent = digits.exponent if isinstance(digits.exponent, int) else 0
    return max(int("".join(map(str, digits.digits))) * 10 ** max(exponent, 0), 1)


def _count(value: JSON) -> int:
    return len(cast("list[JSON]", value)) if isinstance(value, list) else 0


def _check_number(path: str, keyword: str, value: JSON) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER
    if not is_number or (keyword in SIZES and (value < 0 or value != int(value))):
        raise _error(path, keyword, "must be a number up to 2^53", _show(value), "correct it")


def check_regex(regex: JSON, path: str, keyword: str = "") -> None:
    """Raise ConstraintError for an expression that is too long or that repeats too much. Time: linear."""
    if not isinstance(regex, str):
        raise _error(path, "", "must be text", type(regex).__name__, "give a regular expression", keyword)
    if len(regex) > MAX_REGEX_CHARS:
        raise _error(path, "", f"may have {MAX_REGEX_CHARS:,} characters", f"{len(regex):,}", "shorten it", keyword)
    if any("\ud800" <= character <= "\udfff" for character in regex):
        raise _error(path, "", "must be text", "a lone surrogate", "remove it", keyword)
    if (size := measure_regex(regex)) > MAX_REGEX_SIZE:
        found = f"{size:,} characters when its repetitions are written out" if size < 10**12 else "far more"
        raise _error(path, "", f"may stand for {MAX_REGEX_SIZE:,} characters", found, "repeat less", keyword)


def measure_regex(regex: str) -> int:
    """Return an upper bound of the expression's length when counted repetitions are written out."""
    sizes, lasts, at = [0], [0], 0  # of each open group, and of the newest item in it
    while at < len(regex):
        character, step = regex[at], 1
        if character == "\\":
            step = 2
        elif character == "[":
            step = _skip_class(regex, at)
        elif character == "(":
            sizes.append(0)
            lasts.append(0)
            at += 1
            continue
        elif character == ")" and len(sizes) > 1:
            inner = sizes.pop()
            lasts.pop()
            sizes[-1] += inner
            lasts[-1] = inner
            at += 1
            continue
        elif character == "{" and (end := regex.find("}", at)) > 0 and (count := _read_count(regex[at + 1 : end])):
            sizes[-1] += lasts[-1] * (count - 1)
            lasts[-1] *= count
            at = end + 1
            continue
        sizes[-1] += 1
        lasts[-1] = 1
        at += step
    return sum(sizes)


def _skip_class(regex: str, start: int) -> int:
    at = start + 1
    while at < len(regex) and (regex[at] != "]" or at == start + 1):
        at += 2 if regex[at] == "\\" else 1
    return at + 1 - start


def _read_count(text: str) -> int:
    numbers = [part.strip() for part in text.split(",")]
    if len(numbers) > 2 or not all(part.isascii() and part.isdigit() for part in numbers if part) or not any(numbers):
        return 0
    return min(max(int(part[:15]) for part in numbers if part), 10**12)


def locate_error(schema: Schema, root: str, find_error: Callable[[Schema], str]) -> ConstraintError:
    """Return the error of a schema that can't be compiled, with the path of the smallest part that can't, and its keyword; as far
    as they are found within `LOCATE_SECONDS`, since each try compiles a part."""
    end = thread_time() + LOCATE_SECONDS

    def try_part(part: Schema) -> str:
        return find_error(part) if thread_time() < end else ""

    message = find_error(schema)
    rest = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    path, node = root, dict(schema)
    is_narrower = True
    while is_narrower:
        is_narrower = False
        for where, child in list_children(node, path):
            if isinstance(child, dict) and (found := try_part({**cast("Schema", child), **rest})):
                path, node, message, is_narrower = where, cast("dict[str, JSON]", child), found, True
                break
    keyword = _find_keyword(node, rest, message, try_part) if thread_time() < end else ""
    return _error(path, keyword, "can't be enforced", _shorten(message), "change or remove it")


def _find_keyword(node: Schema, rest: Schema, message: str, find_error: Callable[[Schema], str]) -> str:
    """Return the keyword without which a schema compiles; of several, the one that the message names."""
    blamed = [
        name
        for name in node
        if name not in rest and not find_error({**{key: node[key] for key in node if key != name}, **rest})
    ]
    named = [name for name in blamed if name in message]
    return (named or blamed or [""])[0]


def _error(path: str, keyword: str, wrong: str, found: str, advice: str, blamed: str = "") -> ConstraintError:
    where = f"{path}.{keyword[:80]}" if keyword else path
    return ConstraintError(f"{where} {wrong}; found {found}; {advice}.", path, blamed or keyword)


def _show(value: JSON) -> str:
    return _shorten(json.dumps(value, ensure_ascii=False))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79] + "…"
