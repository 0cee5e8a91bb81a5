"""The text format of calls of tools that a client offers, whose arguments are any JSON object.

    <|call|> NAME("TEXT")        one string, named as the trained format names it: what the model knows best
    <|call|> NAME({"a": 1})      any other arguments

The first one is the trained format (model.tokenizer.chat), of which the second is an extension for inference: training data has no
such calls. Reading is the inverse of writing, and both carry calls of earlier turns into a prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from model.constraints.constraint_spec import ToolSpec
from model.tokenizer.chat import DEFAULT_PARAMETER, PARAMETERS, Message, ToolCall, encode_turn, format_call
from model.tokenizer.tokenizer import Tokenizer

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CALL = re.compile(r"\s*([A-Za-z0-9_-]{1,64})\((.*)\)\s*", re.DOTALL)


def get_text_parameter(tool: ToolSpec) -> str:
    """Return the name of the tool's one required string if the trained format carries its calls, else nothing."""
    name = PARAMETERS.get(tool.name, DEFAULT_PARAMETER)
    schema = tool.parameters
    properties = schema.get("properties")
    if not isinstance(properties, dict) or set(cast("dict[str, Any]", properties)) != {name}:
        return ""
    inner: Any = properties[name]
    is_plain = set(schema) <= {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "title",
        "description",
        "$schema",
    }
    is_text = isinstance(inner, dict) and cast("dict[str, Any]", inner).get("type") == "string"
    return name if is_plain and is_text and schema.get("required") == [name] else ""


def format_offered_call(call: ToolCall) -> str:
    """Return the text of a call: the trained format if that can carry its arguments, else with their JSON object."""
    try:
        return format_call(call)
    except ValueError:
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False, separators=(",", ":"))
        return f"{call.name}({arguments})"


def parse_offered_call(text: str, id: str = "") -> ToolCall | None:
    """Parse either format; return None for any other text."""
    match = _CALL.fullmatch(text)
    if match is None:
        return None
    try:
        value: Any = json.loads(match[2], strict=False)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, str):
        return ToolCall.of(match[1], value, id)
    return ToolCall(id, match[1], cast("dict[str, Any]", value)) if isinstance(value, dict) else None


def encode_offered_turn(message: Message, tokenizer: Tokenizer) -> list[int]:
    """Return the ids of <|role|> content <|end|>, as `encode_turn` does, also of calls that the trained format can't carry."""
    if message.call is None:
        return encode_turn(message, tokenizer)
    role, call, end = (tokenizer.get_special_id(name) for name in ("assistant", "call", "end"))
    return [role, call, *tokenizer.encode(format_offered_call(message.call)), end]


def parse_offered_reply(ids: Sequence[int], tokenizer: Tokenizer, call_id: str = "") -> ToolCall | None:
    """Return the call that a finished reply is, None for text. `ids` are the generated ones, without <|end|>."""
    if not ids or ids[0] != tokenizer.get_special_id("call"):
        return None
    return parse_offered_call(tokenizer.decode(ids), call_id)
