"""Read hand-written conversations and make examples of them.

In: objects {"id", "kind", "messages"}, optionally with "wordings" (texts for `{wording}` in the messages; each gives one
conversation), "placeholders": ["name"] (`{name}` is replaced by a first name, another one each time; some names are reserved for
evaluation), "says" (words that a right answer must contain) and "split": "heldout" (reserved for evaluation; the messages then end
with the user's, since many answers are right). Braces in other conversations, as in code, stay as they are. Rows in the formats of
other programs (chat_formats.py), without an id and a kind, become conversations of the kind `chat`. All are written by us or by the
user, so that whatever is wrong with one is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from model.tokenizer.chat import Message, Part, ToolCall
from model.tokenizer.histories import messages_from_any
from pipeline.conversations.chat_files import LISTS, list_chat_files, read_chat_rows
from pipeline.conversations.chat_formats import FIELDS, Draft, parse_turns, read_row
from pipeline.conversations.chatml import ConversationError
from pipeline.conversations.turn_order import check_turns
from pipeline.frame.errors import UserError
from pipeline.skills import SEED_KINDS
from pipeline.skills.refusal import HARMLESS
from pipeline.skills.skill import Example
from pipeline.storage.lines import read_list
from pipeline.storage.values import RowProblem

Seed = dict[str, Any]  # id, kind, messages (as values), and OPTIONAL

REQUIRED = {"id", "kind", "messages"}
OPTIONAL = {"wordings", "says", "split", "placeholders"}
COLUMNS = tuple(dict.fromkeys([*sorted(REQUIRED | OPTIONAL), *FIELDS]))  # that are read of CSV and Parquet
PLACEHOLDERS = ("name",)
HELDOUT_NAME_EVERY = 6
SOURCE, LICENSE = "seed", "Apache-2.0"  # of this repository


class Seeds(NamedTuple):
    """What is written by hand: conversations, first names, system prompts."""

    conversations: list[Seed]
    names: list[str]
    systems: list[str]


def read_seeds(folder: Path) -> Seeds:
    """Return the hand-written conversations of a folder, its names.txt and systems.txt.

    Raises `UserError` that names the file and the line (of CSV, Parquet and an array of JSON, the row) of a broken conversation.
    """
    conversations: list[Seed] = []
    positions: dict[str, str] = {}
    for path in list_chat_files(folder):
        name = str(path.relative_to(folder))
        for number, row in read_chat_rows(path, COLUMNS):
            if isinstance(row, RowProblem):
                raise UserError(f"{path}:{number}: {row.verdict}", row.detail, "correct it, or remove it")
            try:
                seeds = parse_seeds(row, f"{name}:{number}")
            except ValueError as error:
                raise UserError(
                    f"{path}:{number}: not a conversation", str(error), "correct it, or remove it"
                ) from error
            for seed in seeds:
                if (first := positions.setdefault(seed["id"], f"{path}:{number}")) != f"{path}:{number}":
                    raise UserError(
                        f"{path}:{number}: the id is used twice", f"{seed['id']!r}, first in {first}", "rename one"
                    )
                conversations.append(seed)
    names, systems = (
        [text for _, text in read_list(path)] if path.exists() else [] for path in map(folder.joinpath, LISTS)
    )
    _report_unfilled(conversations)
    return Seeds(conversations, names, systems)


def _report_unfilled(conversations: Sequence[Seed]) -> None:
    """Print how many conversations contain `{name}` without declaring it, as code does: it stays as it is."""
    ids = [
        seed["id"]
        for seed in conversations
        if "name" not in seed.get("placeholders", []) and any("{name}" in message.text for message in seed["messages"])
    ]
    if ids:
        print(
            f'conversations: {{name}} stays as it is in {len(ids)} seeds without "placeholders": ["name"], first {ids[0]}'
        )


def parse_seeds(row: Mapping[str, Any], default_id: str) -> list[Seed]:
    """Return the conversations of a row, with their messages as values; `default_id` is for those that have no id. Raises
    `ValueError` that names what is wrong."""
    if {"id", "kind"} <= row.keys():
        return [_parse_own(row)]
    drafts = read_row(row)
    ids = [str(row.get("id") or default_id) + (f".{part}" if part else "") for part in range(len(drafts))]
    return [_parse_foreign(draft, id) for draft, id in zip(drafts, ids, strict=True)]


def _parse_foreign(draft: Draft | ConversationError, id: str) -> Seed:
    if isinstance(draft, ConversationError):
        raise draft
    return {"id": id, "kind": "chat", "messages": check_turns(draft.messages)}


def _parse_own(seed: Mapping[str, Any]) -> Seed:
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
    messages = messages_from_any(parse_turns(seed["messages"]))
    return {**seed, "messages": check_turns(messages, is_prompt="split" in seed)}


def _check_texts(texts: object, name: str) -> None:
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a list of texts, got {texts!r:.80}")


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
                messages, expected = _fill_messages(seed["messages"], values), _make_expected(seed, values)
                yield Example(seed["kind"], messages, expected, SOURCE, seed["id"], (LICENSE,))


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
