"""The mixture of conversations to tune on, and those to test on.

In: passages, hand-written conversations, how many of each kind. Out: examples. Each kind draws from a random
generator of its own, so that more of one kind does not change the others. Held-out names stand in no training
example, neither as what is asked for nor in a passage. Time and memory: O(examples).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from itertools import cycle
from random import Random
from typing import Any, NamedTuple

from model.tokenizer.chat import Message
from pipeline.conversations.seeds import seed_examples
from pipeline.skills.arithmetic_examples import calculator_example
from pipeline.skills.lookups import (
    Example,
    Shelf,
    abstain_example,
    is_quotable,
    quote_example,
    search_example,
    words_example,
)
from pipeline.text.passage import Passage

NEW_WORDING_FRAC = 0.25  # of the held-out items: asked in words that training has never seen
TRIES = 8  # an example that can't be made from one passage is tried with the next, so many times over
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")

Maker = Callable[[Passage, Random, bool], Example | None]


class Seeds(NamedTuple):
    """Hand-written: conversations, first names, system prompts."""

    conversations: list[dict[str, Any]]
    names: list[str]
    systems: list[str]


class Amounts(NamedTuple):
    """How many examples of each kind; `seed_repeats` of each wording of a hand-written conversation."""

    quote: int
    abstain: int
    search: int
    words: int
    calculator: int
    seed_repeats: int


def train_examples(
    amounts: Amounts, ours: Sequence[Passage], known: Shelf, seeds: Seeds, *, system_frac: float, seed: int
) -> list[Example]:
    """In random order. `ours` are the passages that may be shown, `known` tells which names exist at all."""
    examples: list[Example] = []
    for skill, make in _makers(Shelf(ours), known).items():
        examples += _made(make, ours, getattr(amounts, skill), Random(f"{seed} train {skill}"), new_frac=0.0)
    rng = Random(f"{seed} train calculator")
    examples += [calculator_example(rng) for _ in range(amounts.calculator)]
    rng = Random(f"{seed} train systems")
    examples = [_with_system(example, system_frac, seeds, rng) for example in examples]
    rng = Random(f"{seed} train seeds")
    conversations, names, n_repeats = seeds.conversations, seeds.names, amounts.seed_repeats
    examples += seed_examples(conversations, names, rng, is_heldout=False, n_repeats=n_repeats)
    rng.shuffle(examples)
    return examples


def heldout_examples(n: int, theirs: Sequence[Passage], known: Shelf, seeds: Seeds, *, seed: int) -> list[Example]:
    """`n` of each skill where there are names enough. The last message is the scored one as it should be: the call, or the
    answer after it; of a hand-written conversation, whose answer is free, it is the person's."""
    examples: list[Example] = []
    for skill, make in _makers(known, known).items():
        n_made = min(n, sum(map(is_quotable, theirs)))
        made = _made(make, theirs, n_made, Random(f"{seed} heldout {skill}"), NEW_WORDING_FRAC)
        examples += map(_up_to_call, made) if skill in ("search", "words") else made
    rng = Random(f"{seed} heldout calculator")
    sums = [calculator_example(rng, is_new=rng.random() < NEW_WORDING_FRAC) for _ in range(n)]
    examples += [*map(_up_to_call, sums), *sums[: (n + 1) // 2]]
    rng = Random(f"{seed} heldout seeds")
    return examples + list(seed_examples(seeds.conversations, seeds.names, rng, is_heldout=True))


def _up_to_call(example: Example) -> Example:
    return example._replace(messages=example.messages[:2])


def _makers(shelf: Shelf, known: Shelf) -> dict[str, Maker]:
    return {
        "quote": lambda passage, rng, is_new: quote_example(passage, shelf, rng, is_new=is_new),
        "abstain": lambda passage, rng, is_new: abstain_example(passage, shelf, known, rng, is_new=is_new),
        "search": lambda passage, rng, is_new: search_example(passage, rng, is_new=is_new),
        "words": lambda passage, rng, is_new: words_example(passage, shelf, rng, is_new=is_new),
    }


def _made(make: Maker, found: Sequence[Passage], n: int, rng: Random, new_frac: float) -> list[Example]:
    """`n` examples over the quotable passages in random order, again from the start when they are used up."""
    pool = [passage for passage in found if is_quotable(passage)]
    rng.shuffle(pool)
    examples: list[Example] = []
    turns = cycle(pool)
    for _ in range(n * TRIES if pool else 0):
        if len(examples) == n:
            break
        example = make(next(turns), rng, rng.random() < new_frac)
        if example is not None:
            examples.append(example)
    return examples


def _with_system(example: Example, frac: float, seeds: Seeds, rng: Random) -> Example:
    if not seeds.systems or rng.random() >= frac:
        return example
    prompt = rng.choice(seeds.systems).replace("{name}", rng.choice(seeds.names) if seeds.names else "Ada")
    return example._replace(messages=[Message.of("system", prompt), *example.messages])


def without_names(examples: Sequence[Example], names: Collection[str]) -> list[Example]:
    """Those in which none of these dotted names stands anywhere; a passage may mention one."""
    names = frozenset(names)
    return [example for example in examples if names.isdisjoint(_DOTTED.findall(example_text(example)))]


def example_text(example: Example) -> str:
    return "\n".join(message.call.argument if message.call else message.text for message in example.messages)


def joined(
    examples: Sequence[Example], sizes: Sequence[int], max_tokens: int, joined_frac: float, *, seed: int
) -> list[Example]:
    """Some go on with the next one where both fit into one window: people ask more than one thing. `sizes` in tokens."""
    rng = Random(f"{seed} join")
    rows: list[Example] = []
    last = 0
    for example, size in zip(examples, sizes, strict=True):
        is_open = bool(rows) and rows[-1].messages[-1].call is None and example.messages[0].role != "system"
        if is_open and last + size - 1 <= max_tokens and rng.random() < joined_frac:
            rows[-1] = example._replace(messages=[*rows[-1].messages, *example.messages])
            last += size - 1
        else:
            rows.append(example)
            last = size
    return rows
