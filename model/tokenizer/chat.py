"""Define conversations and the one chat template that encodes them, for training and for serving.

In: messages. Out: ids and a loss mask:

    <|bos|> ( <|role|> content <|end|> )*          and, to request a reply, <|assistant|>
    a tool call is an assistant turn whose content is  <|call|> name("argument")

Content is encoded as ordinary text, so a user who types `<|end|>` ends no turn. The loss mask is true on the tokens that the
assistant has to generate: its content (with <|call|>) and its <|end|>.

The JSON form of a message is {"role", "content"}. A tool call adds "call": {"name", "argument"} ("arguments" if they are not the
one string that the tool declares). Ids, if there are any, are "call": {"id"} and "call_id". Needs the standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from model.tokenizer.tokenizer import Tokenizer

JSON = Any  # a value that the json module reads and writes
ROLES = ("system", "user", "assistant", "tool")
PARAMETERS = {  # the name of each tool's one string argument
    "calculate_date": "expression",
    "calculator": "expression",
    "convert_units": "conversion",
    "search_docs": "query",
}
DEFAULT_PARAMETER = "argument"  # for tools that are not declared above
_CALL = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\((".*")\)\s*', re.DOTALL)


@dataclass(frozen=True)
class Part:
    """One piece of a message's content, tagged with its kind. Text is the only kind so far."""

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool. `id` is empty if nothing refers to the call, as in training data."""

    id: str
    name: str
    arguments: Mapping[str, JSON]

    @classmethod
    def of(cls, name: str, argument: str, id: str = "") -> ToolCall:
        """Build a call of a tool that takes one string."""
        return cls(id, name, {PARAMETERS.get(name, DEFAULT_PARAMETER): argument})

    def __hash__(self) -> int:
        return hash((self.id, self.name, json.dumps(self.arguments, sort_keys=True)))

    @property
    def argument(self) -> str:
        """Return the one string argument; the trained format has no other.

        Raises: ValueError for other arguments.
        """
        parameter = PARAMETERS.get(self.name, DEFAULT_PARAMETER)
        value = self.arguments.get(parameter)
        if len(self.arguments) != 1 or not isinstance(value, str):
            raise ValueError(
                f"call.arguments of {self.name} must be one string named {parameter!r}; "
                f"found {json.dumps(dict(self.arguments), ensure_ascii=False)[:80]}; correct them."
            )
        return value


@dataclass(frozen=True)
class Message:
    """One turn. An assistant turn has content or a call; a tool turn may name the call that it answers."""

    role: str
    parts: tuple[Part, ...] = ()
    call: ToolCall | None = field(default=None, kw_only=True)
    call_id: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role is unknown; found {self.role!r}; use one of {', '.join(ROLES)}.")
        if self.call is not None and self.role != "assistant":
            raise ValueError(f"call belongs to the assistant; found role {self.role!r}; use role assistant.")
        if self.call is not None and self.parts:
            raise ValueError(f"content must be empty beside a call; found {self.text[:40]!r}; use two messages.")
        if self.call_id and self.role != "tool":
            raise ValueError(f"call_id belongs to a tool's result; found role {self.role!r}; use role tool.")

    @classmethod
    def of(cls, role: str, text: str) -> Message:
        """Build a message of plain text."""
        return cls(role, (Part(text),) if text else ())

    @classmethod
    def calling(cls, call: ToolCall) -> Message:
        """Build the assistant turn that calls a tool."""
        return cls("assistant", call=call)

    @classmethod
    def result(cls, text: str, call_id: str = "") -> Message:
        """Build the turn with a tool's result."""
        return cls("tool", (Part(text),) if text else (), call_id=call_id)

    @property
    def text(self) -> str:
        """The content as one string."""
        return "".join(part.text for part in self.parts)


EncodeTurn = Callable[[Message], Sequence[int]]  # message → <|role|> content <|end|>


def messages_to_json(messages: Sequence[Message]) -> list[dict[str, JSON]]:
    """Return the JSON form of a conversation."""
    return [message_to_json(message) for message in messages]


def message_to_json(message: Message) -> dict[str, JSON]:
    """Return the JSON form; content of at most one part is a string, other content a list of parts."""
    is_plain = len(message.parts) == 0 or (len(message.parts) == 1 and message.text)
    content = message.text if is_plain else [{"type": part.kind, "text": part.text} for part in message.parts]
    row: dict[str, JSON] = {"role": message.role, "content": content}
    if message.call is not None:
        row["call"] = call_to_json(message.call)
    return row | ({"call_id": message.call_id} if message.call_id else {})


def call_to_json(call: ToolCall) -> dict[str, JSON]:
    """Return the JSON form of a call: `argument` if it has the one declared string, else `arguments`."""
    named = {"id": call.id, "name": call.name} if call.id else {"name": call.name}
    try:
        return {**named, "argument": call.argument}
    except ValueError:
        return {**named, "arguments": dict(call.arguments)}


def messages_from_json(rows: JSON, name: str = "messages") -> list[Message]:
    """Read the JSON form. Raises: ValueError that names the message's index and field, as in messages[2].call.name."""
    if not isinstance(rows, list):
        raise ValueError(f"{name} must be a list; found {type(rows).__name__}; give a list of messages.")
    messages: list[Message] = []
    for number, row in enumerate(cast("list[JSON]", rows)):
        try:
            messages.append(message_from_json(row))
        except ValueError as error:
            raise ValueError(f"{name}[{number}].{error}") from None
    return messages


def message_from_json(row: JSON) -> Message:
    """Read one message. Raises: ValueError that begins with the field's name."""
    row = _check_keys(row, "", {"role"}, {"content", "call", "call_id"})
    call_id = row.get("call_id", "")
    if not isinstance(row["role"], str):
        raise ValueError(f"role is unknown; found {row['role']!r}; use one of {', '.join(ROLES)}.")
    if not isinstance(call_id, str):
        raise ValueError(f"call_id must be text; found {type(call_id).__name__}; give a string.")
    call = row.get("call")
    return Message(
        row["role"],
        _parts_from_json(row.get("content", "")),
        call=None if call is None else call_from_json(call),
        call_id=call_id,
    )


def _parts_from_json(content: JSON) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Part(content),) if content else ()
    if not isinstance(content, list):
        raise ValueError(f"content must be text; found {type(content).__name__}; give a string or a list of parts.")
    parts: list[Part] = []
    for number, part in enumerate(cast("list[JSON]", content)):
        part = _check_keys(part, f"content[{number}]", {"type", "text"}, set())
        if part["type"] != "text" or not isinstance(part["text"], str):
            raise ValueError(
                f"content[{number}].type must be text; found {part['type']!r} with {type(part['text']).__name__}; "
                "give text only."
            )
        parts.append(Part(part["text"]))
    return tuple(parts)


def call_from_json(row: JSON) -> ToolCall:
    """Read one call. Raises: ValueError that begins with the field's name."""
    row = _check_keys(row, "call", {"name"}, {"id", "argument", "arguments"})
    for name in ("id", "name", "argument"):
        if not isinstance(row.get(name, ""), str):
            raise ValueError(f"call.{name} must be text; found {type(row[name]).__name__}; give a string.")
    if ("argument" in row) == ("arguments" in row):
        found = ", ".join(row)
        raise ValueError(f"call must have argument (a string) or arguments (an object); found {found}; give one.")
    if "argument" in row:
        return ToolCall.of(row["name"], row["argument"], row.get("id", ""))
    if not isinstance(row["arguments"], dict):
        raise ValueError(f"call.arguments must be an object; found {type(row['arguments']).__name__}; give names.")
    return ToolCall(row.get("id", ""), row["name"], row["arguments"])


def _check_keys(row: JSON, name: str, required: set[str], optional: set[str]) -> dict[str, JSON]:
    """Return `row` as a dict. Raise ValueError unless it is an object with these fields; `name` is empty for a message itself."""
    if not isinstance(row, dict):
        raise ValueError(
            f"{name or 'role'} must be in an object; found {type(row).__name__}; give one with "
            f"{', '.join(sorted(required))}."
        )
    row, prefix = cast("dict[str, JSON]", row), f"{name}." if name else ""
    if missing := sorted(required - row.keys()):
        raise ValueError(f"{prefix}{missing[0]} is missing; found {', '.join(row) or 'nothing'}; add it.")
    if unknown := sorted(row.keys() - required - optional):
        known = ", ".join(sorted(required | optional))
        raise ValueError(f"{prefix}{unknown[0]} is unknown; known are {known}; remove it.")
    return row


def format_call(call: ToolCall) -> str:
    """Return the trained format `name("argument")`. Raises: ValueError where the arguments are not one string."""
    return f"{call.name}({json.dumps(call.argument, ensure_ascii=False)})"


def parse_call(text: str, id: str = "") -> ToolCall | None:
    """Parse the trained format; return None for anything but `name("argument")`."""
    match = _CALL.fullmatch(text)
    if match is None:
        return None
    try:
        argument = json.loads(match[2], strict=False)
    except ValueError:
        return None
    return ToolCall.of(match[1], argument, id) if isinstance(argument, str) else None


def format_content(message: Message) -> str:
    """Return the text that the template encodes between a turn's special tokens."""
    return message.text if message.call is None else format_call(message.call)


def encode_turn(message: Message, tokenizer: Tokenizer) -> list[int]:
    """Return the ids of <|role|> content <|end|>. They do not depend on other turns, so they can be cached."""
    content = tokenizer.encode(format_content(message))
    if message.call is not None:
        content = [tokenizer.get_special_id("call"), *content]
    return [tokenizer.get_special_id(message.role), *content, tokenizer.get_special_id("end")]


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Return the ids and the loss mask of a conversation."""
    ids, mask = [tokenizer.get_special_id("bos")], [False]
    for message in messages:
        turn = encode_turn(message, tokenizer)
        ids += turn
        mask += [False, *[message.role == "assistant"] * (len(turn) - 1)]
    return ids, mask


def encode_prompt(messages: Sequence[Message], tokenizer: Tokenizer, encode: EncodeTurn | None = None) -> list[int]:
    """Return the ids that request a reply. `encode` may be a caching `encode_turn`."""
    encode = encode or (lambda message: encode_turn(message, tokenizer))
    turns = [index for message in messages for index in encode(message)]
    return [tokenizer.get_special_id("bos"), *turns, tokenizer.get_special_id("assistant")]


def parse_reply(ids: Sequence[int], tokenizer: Tokenizer, call_id: str = "") -> Message:
    """Parse generated ids, up to the first <|end|>, into the assistant's message. A malformed call becomes text."""
    ids = list(ids)
    end, call = tokenizer.get_special_id("end"), tokenizer.get_special_id("call")
    if end in ids:
        ids = ids[: ids.index(end)]
    text = tokenizer.decode(ids)
    if ids and ids[0] == call:
        parsed = parse_call(text, call_id)
        if parsed is not None:
            return Message.calling(parsed)
    return Message.of("assistant", text)
