"""Write the grammars of a constraint, in llguidance's language: tightest first.

json_schema, json_object    the JSON alone, without white space between its parts
regex                       the text, as a whole; \\d and \\w are ASCII, as in JSON Schema
tools                       <|call|> NAME(ARGUMENTS), or any text that has no call
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llguidance import LLMatcher, regex_to_lark

from model.constraints.bind_schema import bind_schema, limit_formats
from model.constraints.check_schema import ConstraintError, Schema, check_regex, check_schema, locate_error
from model.constraints.constraint_spec import ConstraintSpec, ToolSpec
from model.constraints.endless_schema import find_endless_reference
from model.constraints.offered_calls import TOOL_NAME, get_text_parameter

FindError = Callable[[str], str]  # grammar → its error, empty for a good one
MAX_TOOLS = 128  # OpenAI's limit
NO_SPACES = {"x-guidance": {"whitespace_flexible": False}}


def make_grammars(spec: ConstraintSpec, call: int, find_error: FindError) -> Iterator[str]:
    """Yield grammars to try in turn, each of which accepts valid answers only. `call` is the id of <|call|>.

    Raises: ConstraintError.
    """
    if spec.kind == "regex":
        check_regex(spec.regex, "regex")
        yield _make_regex(spec.regex, find_error)
    elif spec.kind == "json_object":
        yield make_json_grammar(bind_schema({"type": "object"}))
    elif spec.kind == "json_schema":
        _check(spec.schema, "schema", find_error)
        schema = limit_formats(spec.schema)
        yield make_json_grammar(bind_schema(schema))
        yield make_json_grammar(schema)
    elif spec.kind == "tools":
        _check_tools(spec.tools, find_error)
        yield _make_call_grammar(spec, call, lambda schema: bind_schema(limit_formats(schema)))
        yield _make_call_grammar(spec, call, limit_formats)
    else:
        raise ConstraintError(f"kind is unknown; found {str(spec.kind)[:80]!r}; use json_schema, regex or tools.")


def make_json_grammar(schema: Schema) -> str:
    """Return the grammar of the JSON values that a schema accepts. Raises: ConstraintError for what is not JSON."""
    try:
        return LLMatcher.grammar_from_json_schema({**schema, **NO_SPACES})
    except ValueError as error:
        raise ConstraintError(f"schema must be JSON; found {str(error)[:80]}; correct it.") from None


def _check(schema: Schema, root: str, find_error: FindError) -> None:
    """Raise ConstraintError for a schema that can't be compiled as it is stated, before it is bounded."""
    check_schema(schema, root)

    def find(part: Schema) -> str:
        return find_error(make_json_grammar(limit_formats(part)))

    if find(schema):
        raise locate_error(schema, root, find)
    if path := find_endless_reference(schema, root):
        message = f"{path}.$ref has no end; found a part that requires itself; make it optional, or allow null."
        raise ConstraintError(message, path, "$ref")


def _make_regex(regex: str, find_error: FindError) -> str:
    grammar = f"start: /{regex_to_lark(regex, 'dw')}/".replace("\n", "\\n").replace("\r", "\\r")
    grammar = LLMatcher.grammar_from_lark(grammar)
    if message := find_error(grammar):
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("error:")), lines[0])[:80]
        raise ConstraintError(f"regex can't be compiled; found {reason}; change it.", "regex", "regex")
    return grammar


def _check_tools(tools: Sequence[ToolSpec], find_error: FindError) -> None:
    if not 0 < len(tools) <= MAX_TOOLS:
        raise ConstraintError(f"tools must be 1 to {MAX_TOOLS}; found {len(tools)}; offer fewer.", "tools")
    names: set[str] = set()
    for number, tool in enumerate(tools):
        path = f"tools[{number}]"
        if not TOOL_NAME.fullmatch(tool.name):
            found = repr(tool.name[:80])
            raise ConstraintError(f"{path}.name must have 1 to 64 of A-Z a-z 0-9 _ -; found {found}; rename it.", path)
        if tool.name in names:
            raise ConstraintError(f"{path}.name must be unique; found {tool.name} twice; rename one.", path)
        names.add(tool.name)
        if tool.parameters.get("type", "object") != "object":
            found = str(tool.parameters["type"])[:80]
            raise ConstraintError(f"{path}.parameters.type must be object; found {found}; name the arguments.", path)
        if tool.parameters:
            _check(tool.parameters, f"{path}.parameters", find_error)


def _make_call_grammar(spec: ConstraintSpec, call: int, bind: Callable[[Schema], Schema]) -> str:
    lines = [f"start: {'call' if spec.must_call else 'call | TEXT'}", "TEXT: /(?s:.*)/"]
    lines.append("call: " + " | ".join(f"call{number}" for number in range(len(spec.tools))))
    for number, tool in enumerate(spec.tools):
        schema = _get_argument_schema(tool)
        body = json.dumps({**bind(schema), **NO_SPACES}, ensure_ascii=True)
        lines.append(f'call{number}: <[{call}]> {json.dumps(tool.name + "(")} arguments{number} ")"')
        lines.append(f"arguments{number}: %json {body}")
    return json.dumps({"grammars": [{"lark_grammar": "\n".join(lines)}]})


def _get_argument_schema(tool: ToolSpec) -> dict[str, Any]:
    """Return the schema of what stands in the parentheses: an object, or one string in the format that the model is trained on."""
    parameters = dict(tool.parameters) or {"type": "object", "properties": {}, "additionalProperties": False}
    name = get_text_parameter(tool)
    if name:
        inner = parameters["properties"][name]
        return {**inner, **{key: parameters[key] for key in ("$defs", "definitions") if key in parameters}}
    return parameters if "type" in parameters else {**parameters, "type": "object"}
