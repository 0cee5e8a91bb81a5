"""Hand-written conversations → examples.

In: lines of JSON {"id", "kind", "messages"} with, where wanted, "wordings" (ways to say what stands as `{wording}` in
the messages; each gives a conversation), "says" (what a right answer must hold) and "split": "heldout" (kept for
evaluation; the messages then end with the person's turn, since many answers are right). `{name}` is a first name,
another one each time; some names are kept for evaluation too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from model.tokenizer.chat import Message, Part, messages_from_json
from pipeline.skills.lookups import Example

KINDS = ("identity", "refusal", "harmless", "chat")
KEYS = {"id", "kind", "messages", "wordings", "says", "split"}
HELDOUT_NAME_EVERY = 6


def parse_seed(line: str) -> dict[str, Any]:
    """Read one line; its messages become values. Raises: ValueError that names what is wrong with this line."""
    seed: Any = json.loads(line)
    if not isinstance(seed, dict) or not {"id", "kind", "messages"} <= seed.keys() <= KEYS:
        raise ValueError(
            f"the keys are id, kind, messages and perhaps {', '.join(sorted(KEYS - {'id', 'kind', 'messages'}))}"
        )
    if seed["kind"] not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {seed['kind']!r}")
    if seed.get("split", "heldout") != "heldout":
        raise ValueError(f'split is "heldout" or left out, not {seed["split"]!r}')
    messages = messages_from_json(seed["messages"])
    if not messages or (messages[-1].role == "user") != ("split" in seed):
        raise ValueError("messages end with the assistant's, or in the heldout split with the user's")
    return {**seed, "messages": messages}


def seed_examples(
    seeds: Iterable[dict[str, Any]], names: Sequence[str], rng: Random, *, is_heldout: bool, n_repeats: int = 1
) -> Iterator[Example]:
    """Each wording `n_repeats` times. What is held out is asked once."""
    kept = [name for number, name in enumerate(names) if (number % HELDOUT_NAME_EVERY == 0) == is_heldout] or list(
        names
    )
    for seed in seeds:
        if ("split" in seed) != is_heldout:
            continue
        for wording in seed.get("wordings", [""]):
            for _ in range(n_repeats):
                fill = {"{wording}": wording, "{name}": rng.choice(kept) if kept else "Ada"}
                yield Example(seed["kind"], _filled(seed["messages"], fill), _expected(seed, fill))


def _filled(messages: Sequence[Message], fill: dict[str, str]) -> list[Message]:
    return [
        replace(message, parts=tuple(Part(_fill(part.text, fill)) for part in message.parts)) for message in messages
    ]


def _expected(seed: dict[str, Any], fill: dict[str, str]) -> dict[str, Any]:
    """A look-alike of an unsafe request may be searched for or answered, so no tool is expected of it."""
    expected: dict[str, Any] = {} if seed["kind"] == "harmless" else {"call": None}
    return expected | {"says": [_fill(word, fill) for word in seed.get("says", [])]}


def _fill(text: str, fill: dict[str, str]) -> str:
    for place, value in fill.items():
        text = text.replace(place, value)
    return text
