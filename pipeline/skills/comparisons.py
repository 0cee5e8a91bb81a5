"""Skill: compare two names: one search for both, one quoted line for each.

In: symbols, a random generator. Out: `difference between A and B` in many wordings → the search `A; B` → two lines, each with its
quotation or abstention. The two are siblings of a module, namesakes in other packages, or any two names.
"""

from __future__ import annotations

from functools import partial
from random import Random

from model.grounding.answers import format_abstention, list_answers, parse_passages
from model.tokenizer.chat import Message, call_to_json
from pipeline.skills.lookups import Asked, answer_query, call_search, make_from_symbols, make_turns
from pipeline.skills.neighbors import Subject
from pipeline.skills.skill import Example, Item, Maker, Material, Skill, cut_before_result, has_expected_call
from pipeline.skills.wordings import shorten_name

UNKNOWN_FRAC = 0.06  # one of the two does not exist
# fmt: off
COMPARE = (
    "What is the difference between {x} and {y}?", "difference between {x} and {y}",
    "what's the difference between {x} and {y}?",
    "{x} vs {y}", "{x} vs. {y}", "{x} or {y}?", "{x} versus {y}", "Compare {x} and {y}.", "compare {x} with {y}",
    "Compare {x} to {y}.",
    "How do {x} and {y} differ?", "how does {x} differ from {y}", "Should I use {x} or {y}?",
    "when do I use {x} and when {y}?",
    "Is {x} the same as {y}?", "Which is better, {x} or {y}?", "{x} and {y}: what's the difference?", "differences {x} {y}",
    "Explain {x} and {y}.", "What do {x} and {y} do?", "what are {x} and {y}", "Tell me about {x} and {y}.", "{x} and {y}",
    "{x} compared to {y}", "How is {x} different from {y}?", "Do {x} and {y} do the same thing?",
    "Which one should I take, {x} or {y}?",
    "Was ist der Unterschied zwischen {x} und {y}?", "Unterschied zwischen {x} und {y}", "{x} oder {y}?",
    "Quelle est la différence entre {x} et {y} ?", "{x} ou {y} ?", "¿Cuál es la diferencia entre {x} y {y}?", "{x} o {y}?",
)
NEW_COMPARE = (
    "In what way is {x} unlike {y}?", "Contrast {x} with {y}.", "I can't decide between {x} and {y}.",
    "why use {x} instead of {y}?",
)
# fmt: on


def make_comparison(symbol: Subject, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a question about two names; None if one of them can't be quoted."""
    first = symbol.title
    second = pick_partner(first, material, rng)
    if second is None:
        return None
    if rng.random() < UNKNOWN_FRAC:
        second = material.known.invent_name(second, rng)
    short = rng.random() < 0.3
    a, b = (shorten_name(first, rng), shorten_name(second, rng)) if short else (first, second)
    if a == b:
        return None
    question = rng.choice(NEW_COMPARE if is_new else COMPARE).format(x=a, y=b)
    asked = Asked(question, f"{a}; {b}")
    result = material.search(asked.argument, asked.question)
    answer = answer_comparison(asked.argument, result, material)
    if answer is None:
        return None
    expected = {"call": call_to_json(call_search(asked.argument).call), "answer": answer}  # type: ignore[arg-type]
    return Example("comparison", make_turns(asked, result, answer, rng), expected)


def pick_partner(title: str, material: Material, rng: Random) -> str | None:
    """Return a name that people may compare with this one."""
    chance = rng.random()
    if chance < 0.55:
        return material.shown.pick_sibling(title, rng)
    if chance < 0.85:
        return material.shown.pick_namesake(title, rng)
    other = rng.choice(material.symbols).title
    return None if other == title or len(other) > 72 else other


def answer_comparison(argument: str, result: str, material: Material) -> str | None:
    """Return the lines that answer a search for two names; None if one of them is found but can't be quoted."""
    passages = parse_passages(result)
    lines: list[str] = []
    for name in argument.split("; "):
        line = answer_query(name, passages)
        if line is None and (material.known.has_answer(name) or material.known.has_in_package(name)):
            return None
        lines.append(line or format_abstention(name))
    answer = "\n".join(lines)
    return answer if answer in list_answers(argument, result) else None


def _hold_out(examples: list[Example]) -> list[Example]:
    half = (len(examples) + 1) // 2
    return [*cut_before_result(examples[:half]), *examples[half:]]


def _compares_exactly(item: Item, reply: Message) -> bool:
    if item.is_first_turn:
        return has_expected_call(item, reply)
    return reply.call is None and reply.text.strip() == item.expected["answer"]


COMPARISON = Skill(
    name="comparison_exact",
    title="Two names compared",
    meaning="one search for both; both quoted, each with its source",
    max_drop=0.08,
    applies=lambda item: item.kind == "comparison",
    is_right=_compares_exactly,
    makers=(Maker("comparison", "comparison", partial(make_from_symbols, make_comparison), _hold_out),),
)
