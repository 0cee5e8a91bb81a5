"""Read conversations in the forms that other programs write, as our messages: OpenAI's histories and ShareGPT's.

In: JSON values of messages. Out: `Message`s. Roles have any case and the names in `ROLE_OF`. Content is text, null, or a list of
parts with text. An assistant's message with content and tool calls becomes several turns: the content, then one turn per call. The
trained format of a call has one string, so `arguments` must be an object, or the JSON text of one, with one string; its name does
not matter. Fields that are empty are ignored, others that are not known are refused. The chat template of exports
(model/tokenizer/autotokenizer.py) reads the same forms and gives the same tokens.

Does not cover: images, audio and files in content, and calls with several arguments: both are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from model.tokenizer.chat import JSON, Message, Part, ToolCall, message_from_json

ROLE_OF = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
TEXT_PARTS = ("text", "input_text", "output_text")
ALIASES = {"from": "role", "value": "content"}  # ShareGPT's
KNOWN = {"role", "content", "refusal", "tool_calls", "function_call", "tool_call_id"}


def messages_from_any(rows: JSON, name: str = "messages") -> list[Message]:
    """Read a conversation. Raises: ValueError that names the message's index and field, as in messages[2].tool_calls[0]."""
    if not isinstance(rows, list):
        raise ValueError(f"{name} must be a list; found {type(rows).__name__}; give a list of messages.")
    messages: list[Message] = []
    for number, row in enumerate(cast("list[JSON]", rows)):
        try:
            messages += read_message(row)
        except ValueError as error:
            raise ValueError(f"{name}[{number}].{error}") from None
    return messages


def read_message(row: JSON) -> list[Message]:
    """Read one message: one turn, and one for each of its calls. Raises: ValueError that begins with the field's name."""
    if not isinstance(row, dict) or row.keys() & {"call", "call_id"}:  # our own form
        return [message_from_json(row)]
    row = {ALIASES.get(key, key): value for key, value in cast("dict[str, JSON]", row).items()}
    role = read_role(row)
    ignored = {"name"} if role == "tool" else set[str]()
    if unknown := sorted(key for key in row.keys() - KNOWN - ignored if row[key] not in (None, "", [], {})):
        raise ValueError(f"{unknown[0]} is unknown; known are {', '.join(sorted(KNOWN))}; remove it.")
    text = read_content(row.get("content")) + read_content(row.get("refusal"), "refusal")
    calls = read_calls(row)
    if calls and role != "assistant":
        raise ValueError(f"tool_calls belongs to the assistant; found role {role!r}; use role assistant.")
    call_id = str(row.get("tool_call_id") or "") if role == "tool" else ""
    own = [Message(role, (Part(text),) if text else (), call_id=call_id)] if text or not calls else []
    return [*own, *map(Message.calling, calls)]


def read_role(row: Mapping[str, JSON]) -> str:
    """Return our name of a message's role. Raises: ValueError for an unknown one."""
    role = row.get("role")
    if not isinstance(role, str) or role.lower() not in ROLE_OF:
        raise ValueError(f"role is unknown; found {role!r}; use one of {', '.join(ROLE_OF)}.")
    return ROLE_OF[role.lower()]


def read_content(content: JSON, name: str = "content") -> str:
    """Return the text of a message's content: null is nothing, parts are joined. Raises: ValueError for anything but text."""
    parts = cast("list[JSON]", content) if isinstance(content, list) else [content or ""]
    texts: list[str] = []
    for number, part in enumerate(parts):
        kind, text = "text", part
        if isinstance(part, dict):
            part = cast("dict[str, JSON]", part)
            kind = part.get("type")
            text = part.get("refusal" if kind == "refusal" else "text")
        if kind not in (*TEXT_PARTS, "refusal") or not isinstance(text, str):
            found = repr(kind) if isinstance(part, dict) else type(part).__name__
            at = f"{name}[{number}]" if isinstance(content, list) else name
            raise ValueError(f"{at} must be text; found {found}; give text only: this model reads nothing else.")
        texts.append(text)
    return "".join(texts)


def read_calls(row: Mapping[str, JSON]) -> list[ToolCall]:
    """Return the calls of an assistant's message. Raises: ValueError that names the call."""
    calls = row.get("tool_calls") or ([row["function_call"]] if row.get("function_call") else [])
    if not isinstance(calls, list):
        raise ValueError(f"tool_calls must be a list; found {type(calls).__name__}; give a list of calls.")
    read: list[ToolCall] = []
    for number, call in enumerate(cast("list[JSON]", calls)):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
            raise ValueError(f"tool_calls[{number}].function.name is missing; found {str(call)[:60]}; name the tool.")
        argument = read_argument(function.get("arguments"), f"tool_calls[{number}].function.arguments")
        read.append(ToolCall.of(name, argument, str(call.get("id") or "")))
    return read


def read_argument(arguments: JSON, name: str = "arguments") -> str:
    """Return the one string of a call's arguments, which are an object or its JSON text. Raises: ValueError for anything else."""
    try:
        values = json.loads(arguments, strict=False) if isinstance(arguments, str) else arguments
    except ValueError:
        values = None
    if isinstance(values, dict) and len(values) == 1 and isinstance(value := next(iter(values.values())), str):
        return value
    raise ValueError(f'{name} must be one string, as in {{"query": "…"}}; found {str(arguments)[:60]}; correct them.')
