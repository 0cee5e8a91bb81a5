"""Check the turns of a conversation before anything is trained on it, and put calls and results into the trained order.

In: typed messages. Out: the same, where an assistant that called several tools at once calls one after the other, each followed
by its result. Raises `ConversationError` with one of these reasons:

- no_turns, empty_turn: nothing is there, or a turn has no text (a tool's result may be empty)
- role_order: not a system turn (perhaps), then the user's and the assistant's in turn
- no_reply: the last turn is not the assistant's; of a prompt (`is_prompt`), not the user's
- tool_call, tool_result: a name that can't be called, a call without its result, a result without its call
- text_before_call: the trained assistant either answers or calls a tool, and its turn ends with the first of the two
- control_character, broken_text: NUL and escape codes, which no terminal should get; half of a surrogate pair
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from model.tokenizer.chat import Message
from pipeline.conversations.chatml import ConversationError

CALL = "call"  # an assistant's turn that calls a tool
FOLLOWS = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant", CALL),
    "assistant": ("user",),
    CALL: ("tool",),
    "tool": ("assistant", CALL),
}
TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")  # what model.tokenizer.chat.parse_call reads
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")  # but white space
SURROGATE = re.compile(r"[\ud800-\udfff]")


def check_turns(messages: Sequence[Message], *, is_prompt: bool = False) -> list[Message]:
    """Return the turns in the trained order. Raises: ConversationError."""
    if not messages:
        raise ConversationError("no_turns", "the list of turns is empty")
    for number, message in enumerate(messages, 1):
        _check_text(message, f"turn {number}")
    ordered = _pair_calls(messages)
    before = ""
    for number, message in enumerate(ordered, 1):
        kind = CALL if message.call else message.role
        if kind not in FOLLOWS[before]:
            _refuse_order(number, before, kind)
        before = kind
    if before not in (("user",) if is_prompt else ("assistant", CALL)):
        due = "a conversation for evaluation ends with the user's" if is_prompt else "nothing follows to learn from"
        raise ConversationError(
            "no_reply", f"the last turn is the {'assistant' if before == CALL else before}'s; {due}"
        )
    return ordered


def _check_text(message: Message, name: str) -> None:
    text = message.call.argument if message.call else message.text
    if not text.strip() and message.call is None and message.role != "tool":
        raise ConversationError("empty_turn", f"{name}, the {message.role}'s, has no text")
    if found := CONTROL.search(text):
        raise ConversationError("control_character", f"{name} contains U+{ord(found[0]):04X}")
    if SURROGATE.search(text):
        raise ConversationError("broken_text", f"{name} has half of a surrogate pair (\\uD800 … \\uDFFF)")
    if message.call and not TOOL_NAME.fullmatch(message.call.name):
        raise ConversationError(
            "tool_call", f"{name} calls {message.call.name[:40]!r}; a name has letters, digits and _"
        )


def _refuse_order(number: int, before: str, kind: str) -> None:
    name, after = f"turn {number}", f"after the {before}'s" if before else "at the start"
    if before == CALL:
        raise ConversationError("tool_call", f"turn {number - 1} calls a tool; its result is missing")
    if kind == "tool":
        raise ConversationError("tool_result", f"{name} is the result of no call")
    if (before, kind) == ("assistant", CALL):
        raise ConversationError("text_before_call", f"{name} calls a tool after the assistant has answered")
    raise ConversationError("role_order", f"{name} is the {'assistant' if kind == CALL else kind}'s, {after}")


def _pair_calls(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with each result directly after its call. Raises: ConversationError for one that belongs to no call."""
    ordered: list[Message] = []
    at = 0
    while at < len(messages):
        calls = _take(messages, at, is_call=True)
        if not calls:
            ordered.append(messages[at])
            at += 1
            continue
        results = _take(messages, at + len(calls), is_call=False)
        ordered += _interleave(calls, results, at)
        at += len(calls) + len(results)
    return ordered


def _take(messages: Sequence[Message], start: int, *, is_call: bool) -> list[Message]:
    """Return the calls, or the results, from `start` on."""
    stop = start
    while stop < len(messages) and (messages[stop].call is not None if is_call else messages[stop].role == "tool"):
        stop += 1
    return list(messages[start:stop])


def _interleave(calls: list[Message], results: list[Message], at: int) -> list[Message]:
    ids = [message.call.id for message in calls if message.call]
    named = [message.call_id for message in results]
    if all(ids) and all(named) and results:
        if len(set(ids)) < len(ids) or set(named) - set(ids) or len(set(named)) < len(named):
            raise ConversationError(
                "tool_result",
                f"the results after turn {at + 1} name {', '.join(named)[:60]}; it calls {', '.join(ids)[:60]}",
            )
        results = sorted(results, key=lambda message: ids.index(message.call_id))
    if len(results) > len(calls) or 0 < len(results) < len(calls) or (not results and len(calls) > 1):
        raise ConversationError("tool_result", f"{len(calls)} calls, but {len(results)} results after turn {at + 1}")
    pairs = zip(calls, [[result] for result in results] or [[]], strict=True)
    return [message for call, result in pairs for message in (call, *result)]
