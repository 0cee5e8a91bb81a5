"""Make random JSON schemas of the kinds that people send: from a seed, always the same."""

from __future__ import annotations

import random
from typing import Any

JSON = Any
NAMES = ("name", "age", "tags", "city", "is_open", "items", "sum", "é", "a b", 'q"uote')
PATTERNS = (r"^[a-z]{2,5}$", r"^\d{3}-\d{2}$", "ab|cd", r"^(GET|POST) /\w+$", r"^\w+@\w+\.org$")
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email", "hostname")


def make_schema(seed: int) -> dict[str, JSON]:
    """Return a schema."""
    return Maker(random.Random(seed)).make_root()


class Maker:
    """Makes parts of schemas, at most three levels deep."""

    def __init__(self, random: random.Random) -> None:
        self._random = random

    def make_root(self) -> dict[str, JSON]:
        schema: Any = self._make_object(0) if self._random.random() < 0.7 else self._make(0)
        if self._random.random() < 0.2 and "properties" in schema and "$ref" not in schema:
            node = {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}}}
            schema = {**schema, "$defs": {"node": {**node, "required": ["value"]}}}
            schema["properties"]["chain"] = {"$ref": "#/$defs/node"}
        return schema

    def _make(self, depth: int) -> dict[str, JSON]:
        makers = [self._make_string, self._make_number, self._make_integer, self._make_choice, self._make_plain]
        if depth < 3:
            makers += [self._make_object, self._make_array, self._make_any_of, self._make_one_of, self._make_all_of]
        return self._random.choice(makers)(depth + 1)

    def _make_plain(self, depth: int) -> dict[str, JSON]:
        return self._random.choice(
            [
                {"type": "boolean"},
                {"type": "null"},
                {},
                {"type": ["string", "null"]},
                {"type": "object"},
                {"type": "array"},
            ]
        )

    def _make_string(self, depth: int) -> dict[str, JSON]:
        kind = self._random.randrange(4)
        if kind == 0:
            low = self._random.randrange(4)
            return {"type": "string", "minLength": low, "maxLength": low + self._random.randrange(5)}
        if kind == 1:
            return {"type": "string", "pattern": self._random.choice(PATTERNS)}
        if kind == 2:
            return {"type": "string", "format": self._random.choice(FORMATS)}
        return {"type": "string", "description": "any text"}

    def _make_number(self, depth: int) -> dict[str, JSON]:
        bounds: dict[str, JSON] = {}
        if self._random.random() < 0.5:
            bounds["minimum"] = round(self._random.uniform(-100, 100), self._random.randrange(3))
        if self._random.random() < 0.5:
            bounds["exclusiveMaximum"] = bounds.get("minimum", 0) + round(self._random.uniform(0.5, 50), 2)
        return {"type": "number", **bounds}

    def _make_integer(self, depth: int) -> dict[str, JSON]:
        bounds: dict[str, JSON] = {}
        if self._random.random() < 0.5:
            bounds["minimum"] = self._random.randrange(-50, 50)
        if self._random.random() < 0.5:
            bounds["maximum"] = bounds.get("minimum", 0) + self._random.randrange(1, 500)
        if self._random.random() < 0.2:
            bounds["multipleOf"] = self._random.choice([2, 5, 7])
        return {"type": "integer", **bounds}

    def _make_choice(self, depth: int) -> dict[str, JSON]:
        values: list[JSON] = ["red", "green", 1, 2.5, None, True, [1, "x"], {"k": "v"}, "é\n\\"]
        some = self._random.sample(values, self._random.randrange(1, 4))
        return {"enum": some} if self._random.random() < 0.7 else {"const": some[0]}

    def _make_object(self, depth: int) -> dict[str, JSON]:
        names = self._random.sample(NAMES, self._random.randrange(1, 4))
        schema: dict[str, JSON] = {"type": "object", "properties": {name: self._make(depth) for name in names}}
        if required := [name for name in names if self._random.random() < 0.6]:
            schema["required"] = required
        kind = self._random.randrange(5)
        if kind == 0:
            schema["additionalProperties"] = False
        elif kind == 1:
            schema["additionalProperties"] = {"type": "integer"}
        elif kind == 2:
            schema = {"type": "object", "additionalProperties": self._make(depth), "maxProperties": 3}
        return schema

    def _make_array(self, depth: int) -> dict[str, JSON]:
        schema: dict[str, JSON] = {"type": "array", "items": self._make(depth)}
        if self._random.random() < 0.5:
            schema["minItems"] = self._random.randrange(3)
            schema["maxItems"] = schema["minItems"] + self._random.randrange(3)
        if self._random.random() < 0.2:
            schema["prefixItems"] = [self._make(depth)]
        return schema

    def _make_any_of(self, depth: int) -> dict[str, JSON]:
        return {"anyOf": [self._make(depth), self._make(depth)]}

    def _make_one_of(self, depth: int) -> dict[str, JSON]:
        cases = [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "value": self._make(depth)},
                "required": ["kind"],
            }
            for kind in ("a", "b")
        ]
        return {"oneOf": cases}

    def _make_all_of(self, depth: int) -> dict[str, JSON]:
        first = {"type": "object", "properties": {"left": self._make(depth)}, "required": ["left"]}
        return {
            "allOf": [first, {"type": "object", "properties": {"right": {"type": "integer"}}, "required": ["right"]}]
        }
