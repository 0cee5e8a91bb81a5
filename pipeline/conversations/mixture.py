"""The mixture of conversations for tuning, and the held-out ones for evaluation.

In: examples of each maker, hand-written conversations. Out: examples in random order. No held-out name occurs in a training
example, neither as the name asked about nor in a passage. Time and memory: O(examples).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from model.tokenizer.chat import Message, ToolCall
from pipeline.conversations.seeds import Seeds, make_seed_examples
from pipeline.skills import MAKERS
from pipeline.skills.identity import ASK_BACK
from pipeline.skills.skill import Example

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")


def mix_train_examples(
    made: Iterable[Sequence[Example]], n_seed_repeats: int, seeds: Seeds, *, system_frac: float, seed: int
) -> list[Example]:
    """Return training examples in random order: those made by program, and each wording of a hand-written conversation
    `n_seed_repeats` times. A fraction `system_frac` of the former starts with a system prompt."""
    rng = Random(f"{seed} train systems")
    examples = [_add_system_prompt(example, system_frac, seeds, rng) for each in made for example in each]
    rng = Random(f"{seed} train seeds")
    conversations, names = seeds.conversations, seeds.names
    examples += make_seed_examples(conversations, names, rng, is_heldout=False, n_repeats=n_seed_repeats)
    rng.shuffle(examples)
    return examples


def hold_out_examples(made: Mapping[str, Sequence[Example]], seeds: Seeds, *, seed: int) -> list[Example]:
    """Return held-out conversations: those of each maker, by its name, and the hand-written ones.

    The last message is the right reply to score: the call, or the answer after it. A hand-written conversation, to
    which many replies are right, ends with the user's message.
    """
    examples = [example for maker in MAKERS for example in maker.hold_out(list(made[maker.name]))]
    rng = Random(f"{seed} heldout seeds")
    return examples + list(make_seed_examples(seeds.conversations, seeds.names, rng, is_heldout=True))


def _add_system_prompt(example: Example, frac: float, seeds: Seeds, rng: Random) -> Example:
    if not seeds.systems or rng.random() >= frac:
        return example
    prompt = rng.choice(seeds.systems).replace("{name}", rng.choice(seeds.names) if seeds.names else "Ada")
    return example._replace(messages=[Message.of("system", prompt), *example.messages])


def drop_examples_with_names(examples: Sequence[Example], names: Collection[str]) -> list[Example]:
    """Return the examples in which none of these dotted names occurs; a passage may mention one."""
    names = frozenset(names)
    return [example for example in examples if names.isdisjoint(_DOTTED.findall(join_texts(example)))]


def drop_examples_with_prompts(examples: Sequence[Example], heldout: Sequence[Example]) -> list[Example]:
    """Return the examples that do not hold the prompt of a held-out one with a reply after it: system prompts aside, message by
    message, at any place. What is measured must not have been trained on."""
    wanted = {_list_turns(each)[: -1 if each.messages[-1].role == "assistant" else None] for each in heldout}
    lengths = {len(turns) for turns in wanted} - {0}

    def holds_prompt(example: Example) -> bool:
        turns = _list_turns(example)
        return any(
            turns[start : start + length] in wanted
            for length in lengths
            for start in range(len(turns) - length)  # a reply follows
        )

    return [example for example in examples if not holds_prompt(example)]


def _list_turns(example: Example) -> tuple[tuple[str, str, ToolCall | None], ...]:
    """Return role, text and call of each message; the number of a call says nothing."""
    messages = (message for message in example.messages if message.role != "system")
    return tuple((m.role, m.text, replace(m.call, id="") if m.call else None) for m in messages)


def join_texts(example: Example) -> str:
    """Return the texts and the calls' arguments of all messages, one per line."""
    return "\n".join(message.call.argument if message.call else message.text for message in example.messages)


def join_short_conversations(
    examples: Sequence[Example], sizes: Sequence[int], max_tokens: int, joined_frac: float, *, seed: int
) -> list[Example]:
    """Return conversations, a fraction `joined_frac` of which continues with the next one where both fit into
    `max_tokens`, because users ask more than one question. `sizes`: tokens of each example."""
    rng = Random(f"{seed} join")
    rows: list[Example] = []
    last = 0
    for example, size in zip(examples, sizes, strict=True):
        is_open = bool(rows) and rows[-1].messages[-1].call is None and example.messages[0].role != "system"
        is_open = is_open and example.kind != ASK_BACK
        if is_open and last + size - 1 <= max_tokens and rng.random() < joined_frac:
            rows[-1] = _join(rows[-1], example)
            last += size - 1
        else:
            rows.append(example)
            last = size
    return rows


def _join(first: Example, second: Example) -> Example:
    """Return one conversation of two, under the licenses of both."""
    sources = dict.fromkeys([*first.source.split(", "), *second.source.split(", ")])
    return second._replace(
        messages=[*first.messages, *second.messages],
        source=", ".join(sorted(sources)),
        locator=", ".join(filter(None, (first.locator, second.locator))),
        licenses=(*first.licenses, *second.licenses),
    )


def join_licenses(licenses: Iterable[str]) -> str:
    """Return the expression that requires all of these licenses."""
    distinct: set[str] = set()
    for each in licenses:
        distinct |= {each} if "(" in each or " OR " in each else set(each.split(" AND "))
    names = sorted(distinct - {""})
    return " AND ".join(f"({each})" if " OR " in each and len(names) > 1 else each for each in names)
