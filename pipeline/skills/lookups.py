"""Conversations that look something up: shared by the skills that search and those that answer from passages.

In: passages, a random generator. Out: messages. A question comes with the search's result, or in some conversations with
the text itself, so that no search is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from random import Random

from model.grounding.answers import NOTHING_FOUND
from model.tokenizer.chat import Message, ToolCall
from pipeline.skills.neighbors import is_quotable
from pipeline.skills.skill import Example, Material
from pipeline.skills.wordings import Asked
from pipeline.text.passage import Passage

GIVEN_FRAC = 0.15  # the text comes with the question, no search is needed
TRIES = 8  # attempts per example: one that can't be made from one passage is tried with the next
# fmt: off
WITH_TEXT = (
    "{text}\n\n{question}", "{question}\n\n{text}", "Context:\n{text}\n\nQuestion: {question}",
    "Here is a text:\n{text}\n\n{question}", "Answer from this:\n{text}\n\n{question}",
    "{question} Use this:\n{text}", "Documentation:\n{text}\n{question}", "I found this:\n{text}\n\n{question}",
    "{question}\nContext: {text}",
)
# fmt: on

MakeOne = Callable[[Passage, Material, Random, bool], Example | None]


def make_from_passages(make_one: MakeOne, n: int, material: Material, rng: Random) -> list[Example]:
    """Return `n` examples about the quotable passages in random order, each asked about again when all are used up.

    Held-out: at most as many as there are passages. Fewer if `make_one` returns None too often.
    """
    pool = [passage for passage in material.passages if is_quotable(passage)]
    if material.is_heldout:
        n = min(n, len(pool))
    rng.shuffle(pool)
    examples: list[Example] = []
    passages = cycle(pool)
    for _ in range(n * TRIES if pool else 0):
        if len(examples) == n:
            break
        example = make_one(next(passages), material, rng, rng.random() < material.new_wording_frac)
        if example is not None:
            examples.append(example)
    return examples


def make_search_call(asked: Asked) -> ToolCall:
    """Return the call of the search that the question needs."""
    return ToolCall.of("search_docs", asked.name)


def make_search_turns(asked: Asked) -> list[Message]:
    """Return the question and the call."""
    return [Message.of("user", asked.question), Message.calling(make_search_call(asked))]


def make_turns(
    asked: Asked, passages: Sequence[Passage], answer: str, rng: Random, given_frac: float = GIVEN_FRAC
) -> list[Message]:
    """Return question, search, result and answer; with probability `given_frac`, the question with its text, and the answer."""
    text = format_passages(passages)
    if passages and rng.random() < given_frac:
        question = rng.choice(WITH_TEXT).format(text=text, question=asked.question)
        return [Message.of("user", question), Message.of("assistant", answer)]
    return [*make_search_turns(asked), Message.result(text), Message.of("assistant", answer)]


def format_passages(passages: Sequence[Passage]) -> str:
    """Return passages as search_docs returns them: one line each."""
    return "\n".join(f"[{passage.title}] {passage.text}" for passage in passages) or NOTHING_FOUND


def contains_name(text: str, name: str) -> bool:
    """Return whether `name` occurs in the text as a whole name, or as the end of a longer one."""
    at = text.find(name)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(name) : at + len(name) + 2]
        is_start = not (before.isalnum() or before == "_")
        is_end = not after or not (after[0].isalnum() or after[0] == "_" or (after[0] == "." and after[1:].isalpha()))
        if is_start and is_end:
            return True
        at = text.find(name, at + 1)
    return False
