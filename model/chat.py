"""Messages → ids and loss mask: the one chat template, for training and for serving.

In: messages, each {"role": system | user | assistant | tool, "content": text}; an assistant's message may hold
{"call": {"name", "argument"}} instead of content. Out:

    <|bos|> ( <|role|> content <|end|> )*          and to ask for a reply: <|assistant|>
    a call is an assistant's turn whose content is  <|call|> name("argument")

Content is encoded as ordinary text, so a person who types `<|end|>` ends nothing. The loss mask is true on the tokens that
the assistant has to write: its content (with <|call|>) and its <|end|>.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from model.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")
Message = Mapping[str, Any]
_CALL = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\((".*")\)\s*', re.DOTALL)


def call_text(name: str, argument: str) -> str:
    return f"{name}({json.dumps(argument, ensure_ascii=False)})"


def parse_call(text: str) -> dict[str, str] | None:
    """None for anything but `name("argument")`."""
    match = _CALL.fullmatch(text)
    if match is None:
        return None
    try:
        argument = json.loads(match[2], strict=False)
    except ValueError:
        return None
    return {"name": match[1], "argument": argument} if isinstance(argument, str) else None


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Raises: ValueError for an unknown role or content that is no text, naming the message."""
    ids, mask = [tokenizer.special("bos")], [False]
    for number, message in enumerate(messages):
        content = _content_ids(message, number, tokenizer)
        is_assistant = message["role"] == "assistant"
        ids += [tokenizer.special(message["role"]), *content, tokenizer.special("end")]
        mask += [False, *[is_assistant] * (len(content) + 1)]
    return ids, mask


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    return [*render(messages, tokenizer)[0], tokenizer.special("assistant")]


def parse_reply(ids: Sequence[int], tokenizer: Tokenizer) -> dict[str, Any]:
    """The assistant's message from what it generated, up to its first <|end|>. A malformed call is text."""
    ids = list(ids)
    end, call = tokenizer.special("end"), tokenizer.special("call")
    if end in ids:
        ids = ids[: ids.index(end)]
    text = tokenizer.decode(ids)
    if ids and ids[0] == call:
        parsed = parse_call(text)
        if parsed is not None:
            return {"role": "assistant", "content": "", "call": parsed}
    return {"role": "assistant", "content": text}


def fit(messages: Sequence[Message], tokenizer: Tokenizer, max_tokens: int, reserve: int) -> list[dict[str, Any]]:
    """The messages that leave `reserve` tokens free in a window of `max_tokens`, their prompt's <|assistant|> counted.

    A round is a person's message with all that follows until their next one. The oldest rounds go first, whole; system
    messages at the start and the last round stay. If that is still too long, the longest message left is cut in its
    middle (an ellipsis marks the place), again and again, until it fits.
    Raises: ValueError when not even the turns' own tokens fit.
    """
    budget = max_tokens - reserve
    messages = [dict(message) for message in messages]
    n_system = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    system, rest = messages[:n_system], messages[n_system:]
    starts = [n for n, message in enumerate(rest) if message["role"] == "user" and n > 0]
    while starts and len(prompt_ids([*system, *rest], tokenizer)) > budget:
        rest = rest[starts[0] :]
        starts = [start - starts[0] for start in starts[1:]]
    kept = [*system, *rest]
    while (excess := len(prompt_ids(kept, tokenizer)) - budget) > 0:
        _shorten_longest(kept, tokenizer, excess)
    return kept


def _shorten_longest(messages: list[dict[str, Any]], tokenizer: Tokenizer, excess: int) -> None:
    contents = [[] if message.get("call") else tokenizer.encode(message["content"]) for message in messages]
    number = max(range(len(contents)), key=lambda n: len(contents[n]), default=-1)
    if number < 0 or not contents[number]:
        raise ValueError(
            f"the window can't hold this conversation; found {excess} tokens too many with every message cut away; "
            "raise max_tokens or lower reserve."
        )
    ids = contents[number]
    # Cutting adds an ellipsis and may split a character or a merge, so a few tokens more than the excess go.
    n_left = max(len(ids) - excess - 4, 0)
    head, tail = ids[: (n_left + 1) // 2], ids[len(ids) - n_left // 2 :]
    text = "…".join(tokenizer.decode_bytes(part).decode("utf-8", errors="ignore") for part in (head, tail))
    messages[number]["content"] = text if n_left else ""


def _content_ids(message: Message, number: int, tokenizer: Tokenizer) -> list[int]:
    role, content, call = message.get("role"), message.get("content", ""), message.get("call")
    if role not in ROLES:
        raise ValueError(f"messages[{number}].role is unknown; found {role!r}; use one of {', '.join(ROLES)}.")
    if not isinstance(content, str):
        raise ValueError(f"messages[{number}].content must be text; found {type(content).__name__}; give a string.")
    if not call:
        return tokenizer.encode(content)
    if role != "assistant":
        raise ValueError(f"messages[{number}].call belongs to the assistant; found role {role!r}; use role assistant.")
    return [tokenizer.special("call"), *tokenizer.encode(call_text(call["name"], call["argument"]))]
