"""Read hand-written conversations and make examples of them.

In: objects {"id", "kind", "messages"}, optionally with "wordings" (texts for `{wording}` in the messages; each gives one
conversation), "placeholders": ["name"] (`{name}` is replaced by a first name, another one each time; some names are reserved for
evaluation), "says" (words that a right answer must contain) and "split": "heldout" (reserved for evaluation; the messages then end
with the user's, since many answers are right). Braces in other conversations, as in code, stay as they are. Objects in the forms of
other programs, without an id and a kind, become conversations of the kind `chat`: OpenAI's {"messages"}, ShareGPT's
{"conversations"}, Alpaca's {"instruction", "input", "output"}, Dolly's and {"prompt", "completion"} (docs/conversations.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from model.tokenizer.chat import Message, Part, ToolCall
from model.tokenizer.histories import messages_from_any, read_content
from pipeline.skills import SEED_KINDS
from pipeline.skills.refusal import HARMLESS
from pipeline.skills.skill import Example

Seed = dict[str, Any]  # id, kind, messages (as values), and OPTIONAL

REQUIRED = {"id", "kind", "messages"}
OPTIONAL = {"wordings", "says", "split", "placeholders"}
PLACEHOLDERS = ("name",)
HELDOUT_NAME_EVERY = 6
# Other programs' fields: of the instruction, of what it refers to, of the answer.
INSTRUCTIONS = (
    ("instruction", "input", "output"),
    ("instruction", "context", "response"),
    ("prompt", "", "completion"),
)
IGNORED = {
    "tools",
    "parallel_tool_calls",
    "category",
    "source",
}  # of other programs: the trained format declares no tools


def parse_seed(seed: object, default_id: str) -> Seed:
    """Return a conversation with its messages as values. `default_id` is its id if it has none. Raises `ValueError` that names
    what is wrong."""
    if not isinstance(seed, dict):
        raise ValueError(f"a conversation must be an object, got {type(seed).__name__}")
    seed = _read_foreign(seed, default_id) if not {"id", "kind"} <= seed.keys() else seed
    if not REQUIRED <= seed.keys() <= REQUIRED | OPTIONAL:
        raise ValueError(
            f"keys must be id, kind, messages, and optionally {', '.join(sorted(OPTIONAL))}; got {', '.join(map(str, seed))}"
        )
    if not isinstance(seed["id"], str) or seed["kind"] not in SEED_KINDS:
        raise ValueError(f"kind must be one of {', '.join(SEED_KINDS)}, got {seed['kind']!r}, and id a string")
    if seed.get("split", "heldout") != "heldout":
        raise ValueError(f'split must be "heldout" or absent, got {seed["split"]!r}')
    for name in ("wordings", "says", "placeholders"):
        _check_texts(seed.get(name, ["name"]), name)
    if unknown := sorted(set(seed.get("placeholders", [])) - set(PLACEHOLDERS)):
        raise ValueError(f"placeholders must be among {', '.join(PLACEHOLDERS)}, got {', '.join(unknown)}")
    messages = messages_from_any(_parse_cell(seed["messages"]))
    _check_messages(messages, is_heldout="split" in seed)
    return {**seed, "messages": messages}


def _check_texts(texts: object, name: str) -> None:
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a list of texts, got {texts!r:.80}")


def _check_messages(messages: Sequence[Message], *, is_heldout: bool) -> None:
    if not messages or (messages[-1].role == "user") != is_heldout:
        raise ValueError("messages must end with the assistant's, or in the heldout split with the user's")
    for number, message in enumerate(messages):
        text = message.call.argument if message.call else message.text
        if not text and message.call is None and message.role != "tool":
            raise ValueError(f"messages[{number}].content is empty: remove the message, or write its text")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(
                f"messages[{number}].content has half of a surrogate pair (\\uD800 … \\uDFFF): write the whole one"
            )


def _read_foreign(row: Mapping[str, Any], default_id: str) -> Seed:
    """Return a row of another program in our form. Raises `ValueError` for a form that is not known."""
    known, system = {"id", "system", *IGNORED}, row.get("system") or ""
    turns = row.get("messages", row.get("conversations"))
    if turns is not None:
        known |= {"messages", "conversations"}
        turns = _parse_cell(turns)
    else:
        names = next((names for names in INSTRUCTIONS if row.keys() >= {names[0], names[2]}), None)
        if names is None:
            raise ValueError(
                "keys must be id, kind, messages; or of other programs messages, conversations, instruction and output, "
                f"instruction and response, prompt and completion; got {', '.join(map(str, row))}"
            )
        known |= set(names)
        turns = _join_instruction(row, names)
    if unknown := sorted(str(key) for key in row.keys() - known if row[key] not in (None, "", [], {})):
        raise ValueError(f"{unknown[0]} is unknown in a conversation without id and kind; remove it, or add both")
    prompt = [{"role": "system", "content": system}] if system else []
    if not isinstance(turns, list):
        raise ValueError(f"messages must be a list, got {type(turns).__name__}")
    return {"id": str(row.get("id") or default_id), "kind": "chat", "messages": [*prompt, *turns]}


def _join_instruction(row: Mapping[str, Any], names: tuple[str, str, str]) -> list[Any]:
    """Return the messages of a row with an instruction and an answer, or with messages in the place of both."""
    if isinstance(row[names[0]], list) and isinstance(row[names[2]], list):
        return [*row[names[0]], *row[names[2]]]
    asked = [text for name in names[:2] if (text := read_content(row.get(name), name))]
    return [{"role": "user", "content": "\n\n".join(asked)}, {"role": "assistant", "content": row[names[2]]}]


def _parse_cell(messages: object) -> Any:
    """Return messages, which in a cell of CSV are JSON. Raises `ValueError` for text that is not JSON."""
    if not isinstance(messages, str):
        return messages
    try:
        return json.loads(messages)
    except ValueError as error:
        raise ValueError(f"messages must be a list, got text that is not JSON: {error}") from error


def make_seed_examples(
    seeds: Iterable[Seed], names: Sequence[str], rng: Random, *, is_heldout: bool, n_repeats: int = 1
) -> Iterator[Example]:
    """Yield an example for each wording of the conversations of one split, `n_repeats` times."""
    own = [name for number, name in enumerate(names) if (number % HELDOUT_NAME_EVERY == 0) == is_heldout]
    own = own or list(names)
    for seed in seeds:
        if ("split" in seed) != is_heldout:
            continue
        for wording in seed.get("wordings", [""]):
            for _ in range(n_repeats):
                values = {"{wording}": wording} if "wordings" in seed else {}
                name = (
                    rng.choice(own) if own else "Ada"
                )  # drawn for each, so that a seed leaves the names of others unchanged
                values |= {"{name}": name} if "name" in seed.get("placeholders", []) else {}
                yield Example(seed["kind"], _fill_messages(seed["messages"], values), _make_expected(seed, values))


def _fill_messages(messages: Sequence[Message], values: Mapping[str, str]) -> list[Message]:
    return [
        replace(
            message,
            parts=tuple(Part(_fill(part.text, values)) for part in message.parts),
            call=message.call and ToolCall.of(message.call.name, _fill(message.call.argument, values), message.call.id),
        )
        for message in messages
    ]


def _make_expected(seed: Seed, values: Mapping[str, str]) -> dict[str, Any]:
    """Return what scorers look for: no tool call, except for harmless requests, which may be searched for; words."""
    expected: dict[str, Any] = {} if seed["kind"] == HARMLESS else {"call": None}
    return expected | {"says": [_fill(word, values) for word in seed.get("says", [])]}


def _fill(text: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text
