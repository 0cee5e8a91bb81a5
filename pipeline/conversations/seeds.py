"""Read hand-written conversations and make examples of them.

In: lines of JSON {"id", "kind", "messages"}, optionally with "wordings" (texts for `{wording}` in the messages; each gives
one conversation), "says" (words that a right answer must contain) and "split": "heldout" (reserved for evaluation; the
messages then end with the user's, since many answers are right). `{name}` is replaced by a first name, another one each
time; some names are reserved for evaluation too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from model.tokenizer.chat import Message, Part, messages_from_json
from pipeline.skills import SEED_KINDS
from pipeline.skills.refusal import HARMLESS
from pipeline.skills.skill import Example

REQUIRED = {"id", "kind", "messages"}
OPTIONAL = {"wordings", "says", "split"}
HELDOUT_NAME_EVERY = 6


def parse_seed(line: str) -> dict[str, Any]:
    """Return the conversation of one line, with its messages as values. Raises `ValueError` that names what is wrong."""
    seed: Any = json.loads(line)
    if not isinstance(seed, dict) or not REQUIRED <= seed.keys() <= REQUIRED | OPTIONAL:
        raise ValueError(f"keys must be id, kind, messages, and optionally {', '.join(sorted(OPTIONAL))}")
    if seed["kind"] not in SEED_KINDS:
        raise ValueError(f"kind must be one of {', '.join(SEED_KINDS)}, got {seed['kind']!r}")
    if seed.get("split", "heldout") != "heldout":
        raise ValueError(f'split must be "heldout" or absent, got {seed["split"]!r}')
    messages = messages_from_json(seed["messages"])
    if not messages or (messages[-1].role == "user") != ("split" in seed):
        raise ValueError("messages must end with the assistant's, or in the heldout split with the user's")
    return {**seed, "messages": messages}


def make_seed_examples(
    seeds: Iterable[dict[str, Any]], names: Sequence[str], rng: Random, *, is_heldout: bool, n_repeats: int = 1
) -> Iterator[Example]:
    """Yield an example for each wording of the conversations of one split, `n_repeats` times."""
    own = [name for number, name in enumerate(names) if (number % HELDOUT_NAME_EVERY == 0) == is_heldout]
    own = own or list(names)
    for seed in seeds:
        if ("split" in seed) != is_heldout:
            continue
        for wording in seed.get("wordings", [""]):
            for _ in range(n_repeats):
                values = {"{wording}": wording, "{name}": rng.choice(own) if own else "Ada"}
                yield Example(seed["kind"], _fill_messages(seed["messages"], values), _make_expected(seed, values))


def _fill_messages(messages: Sequence[Message], values: Mapping[str, str]) -> list[Message]:
    return [
        replace(message, parts=tuple(Part(_fill(part.text, values)) for part in message.parts)) for message in messages
    ]


def _make_expected(seed: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Return what scorers look for: no tool call, except for harmless requests, which may be searched for; words."""
    expected: dict[str, Any] = {} if seed["kind"] == HARMLESS else {"call": None}
    return expected | {"says": [_fill(word, values) for word in seed.get("says", [])]}


def _fill(text: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text
