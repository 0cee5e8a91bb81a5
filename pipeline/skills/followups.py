"""Skill: understand a question by the turns before it: `and its arguments?`, `in scipy?`, `what about prod?`, `the second one`.

In: symbols, a random generator. Out: conversations of two to four questions. The name of a follow-up is the last cited title; a
name typed without a dot gets its module; another package gets its last part; `the second one` is one of the two last compared or
cited. What a follow-up finds is answered as any other search is. Some orders of questions (NEW_ORDERS) and wordings (NEW …) are
reserved for evaluation. The last question of a held-out conversation is scored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

from model.grounding.answers import list_answers, parse_passages, parse_quotes
from model.grounding.arguments import join_module, join_sibling
from model.grounding.matching import split_facet
from model.tokenizer.chat import Message, call_to_json
from pipeline.skills.comparisons import COMPARE, answer_comparison
from pipeline.skills.facets import FACETS, ask_facet, list_parameters
from pipeline.skills.lookups import Asked, answer_query, call_search, make_from_symbols, plant_instruction
from pipeline.skills.neighbors import Subject
from pipeline.skills.skill import Example, Maker, Material, Skill, has_expected_call
from pipeline.skills.wordings import ask_name, shorten_name

# fmt: off
IT_FACETS: dict[str, tuple[str, ...]] = {
    "parameters": ("And its arguments?", "and its arguments?", "What arguments does it take?",
                   "which parameters does it have", "and the parameters?",
                   "arguments?", "parameters?", "its parameters", "What can I pass to it?", "What are its options?",
                   "and the args",
                   "What parameters does it accept?", "Und die Parameter?", "Et ses arguments ?", "¿Y sus argumentos?"),
    "returns": ("What does it return?", "and what does it return", "And the return value?", "return value?",
                "what do I get back", "returns?",
                "What type does it return?", "and the result?", "Was gibt es zurück?", "Et que renvoie-t-il ?",
                "¿Qué devuelve?"),
    "raises": ("Which errors does it raise?", "and the exceptions?", "what exceptions can it raise?",
               "does it raise errors?", "When does it fail?"),
    "examples": ("Show an example.", "show me an example", "example?", "an example please", "Can I see an example?",
                 "And an example?",
                 "give me an example", "How is it used? Show code.", "some code please", "code example?",
                 "Ein Beispiel?", "Un exemple ?", "¿Un ejemplo?"),
    "signature": ("What is its signature?", "And the signature?", "how do I call it", "How is it called?",
                  "and the defaults?", "What are its defaults?"),
}
NEW_IT_FACETS: dict[str, tuple[str, ...]] = {
    "parameters": ("Which inputs does it need?", "so what are its parameters?"), "returns": ("So what comes back?",
                   "what will it give back"),
    "raises": ("Can it raise an error?",), "examples": ("Could you show some code?", "an example of that?"),
    "signature": ("its signature please",),
}
IT_PARAMETER = ("What does {p} do?", "what is {p}", "and {p}?", "What is {p} for?", "What about the {p} argument?",
                "explain {p}", "And {p}?",
                "what does {p} mean there", "What is the default of {p}?", "the {p} parameter?", "Was macht {p}?",
                "Et {p} ?")
NEW_IT_PARAMETER = ("Tell me about {p}.", "why {p}?")
PACKAGE = ("in {m}?", "And in {m}?", "and in {m}", "How about {m}?", "what about in {m}", "And {m}'s?", "and {m}'s?",
           "the one in {m}?", "What about {m}?",
           "same in {m}?", "Does {m} have it too?", "is there one in {m}", "And how is it in {m}?", "Und in {m}?",
           "Et dans {m} ?", "¿Y en {m}?")
NEW_PACKAGE = ("The {m} version?", "Is it in {m} as well?")
SIBLING = ("What about {y}?", "what about {y}", "And {y}?", "and {y}?", "How about {y}?", "{y}?", "and what does {y} do",
           "Now {y}.", "and for {y}?",
           "same for {y}", "What does {y} do then?", "Und {y}?", "Et {y} ?", "¿Y {y}?")
NEW_SIBLING = ("Then {y}, please.", "so what about {y}")
AGAINST = ("How does it differ from {y}?", "what's the difference to {y}", "compare it with {y}", "vs {y}?",
           "Is it the same as {y}?", "and compared to {y}?",
           "or {y}?", "Should I rather use {y}?", "How is {y} different?", "difference to {y}?",
           "Was ist der Unterschied zu {y}?")
NEW_AGAINST = ("In contrast to {y}?", "why not {y}?")
ORDINAL = {
    0: ("the first one", "The first one?", "Tell me more about the first one.", "and the first?", "the first please",
        "explain the first one"),
    1: ("the second one", "The second one?", "Tell me more about the second one.", "what about the second?",
        "the second please", "the other one",
        "explain the second one", "and the second one?"),
}
NEW_ORDINAL = {0: ("I mean the first.",), 1: ("I mean the second.", "the second of them")}
# fmt: on
ORDERS = (  # kinds of questions, one after the other
    *[("name", "facet")] * 4,
    *[("name", "parameter")] * 2,
    *[("name", "package")] * 2,
    *[("name", "sibling")] * 3,
    ("name", "against"),
    *[("compare", "ordinal")] * 2,
    ("compare", "ordinal", "facet"),
    *[("name", "facet", "facet")] * 2,
    ("facet", "facet"),
    ("facet", "sibling"),
    ("facet", "parameter"),
    ("name", "facet", "sibling"),
    ("name", "facet", "name"),
    ("facet", "package"),
    ("name", "parameter", "facet"),
)  # fmt: skip
NEW_ORDERS = (
    ("name", "sibling", "facet"), ("name", "package", "facet"), ("name", "facet", "package"), ("compare", "ordinal",
    "parameter"),
    ("facet", "against"), ("name", "sibling", "facet", "facet"),
)  # fmt: skip


class Turn(NamedTuple):
    """A question, the argument it needs, and the partner that a comparison or a sibling names."""

    asked: Asked
    result: str
    answer: str


class Topic(NamedTuple):
    """What the conversation is about: the symbol, and the two names that were compared last."""

    symbol: Subject
    compared: tuple[str, ...] = ()


Ask = Callable[[Topic, Material, Random, bool], Asked | None]


def make_follow_up(symbol: Subject, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a conversation whose later questions need the earlier turns; None if one of them has no known answer."""
    messages: list[Message] = []
    topic, call = Topic(symbol), None
    for number, kind in enumerate(rng.choice(NEW_ORDERS if is_new else ORDERS)):
        asked = (FIRST if number == 0 else LATER)[kind](topic, material, rng, is_new)
        turn = _answer(asked, material) if asked else None
        if turn is None:
            return None
        call = call_search(turn.asked.argument)
        result = plant_instruction(turn.result, rng)
        messages += [
            Message.of("user", turn.asked.question),
            call,
            Message.result(result),
            Message.of("assistant", turn.answer),
        ]
        topic = _move(topic, turn, material)
        if topic is None:
            return None
    return Example("followup", messages, {"call": call_to_json(call.call)}) if call and call.call else None


def _answer(asked: Asked, material: Material) -> Turn | None:
    result = material.search(asked.argument, asked.question)
    if "; " in asked.argument:
        answer = answer_comparison(asked.argument, result, material)
    else:
        answer = answer_query(asked.argument, parse_passages(result))
    is_listed = answer is not None and answer in list_answers(asked.argument, result)
    return Turn(asked, result, answer) if answer is not None and is_listed else None


def _move(topic: Topic, turn: Turn, material: Material) -> Topic | None:
    """Return the topic after a turn: the last cited title, else the name that was searched for."""
    quotes = parse_quotes(turn.answer)
    names = [split_facet(quote.title).name for quote in quotes]
    if "; " in turn.asked.argument:
        halves = tuple(turn.asked.argument.split("; "))
        return Topic(topic.symbol, halves) if len(names) == 2 else None
    title = names[-1] if names else split_facet(turn.asked.argument).name
    symbol = material.shown.symbols.get(title)
    return Topic(symbol) if symbol else None


def _ask_name_first(topic: Topic, _material: Material, rng: Random, is_new: bool) -> Asked:
    return ask_name(shorten_name(topic.symbol.title, rng), rng, is_new=is_new)


def _ask_facet_first(topic: Topic, _material: Material, rng: Random, is_new: bool) -> Asked | None:
    facet = _draw_facet(topic.symbol, rng)
    return ask_facet(shorten_name(topic.symbol.title, rng), facet, rng, is_new=is_new) if facet else None


def _ask_comparison_first(topic: Topic, material: Material, rng: Random, is_new: bool) -> Asked | None:
    other = _pick_other(topic, material, rng)
    if other is None:
        return None
    return Asked(rng.choice(COMPARE).format(x=topic.symbol.title, y=other), f"{topic.symbol.title}; {other}")


def _pick_other(topic: Topic, material: Material, rng: Random) -> str | None:
    pick = material.shown.pick_sibling if rng.random() < 0.7 else material.shown.pick_namesake
    return pick(topic.symbol.title, rng)


def _draw_facet(symbol: Subject, rng: Random) -> str | None:
    facets = [facet for facet in FACETS if facet in symbol.facets and facet in IT_FACETS]
    if not facets or rng.random() < 0.15:  # a part that may be missing
        return rng.choice(list(IT_FACETS))
    return rng.choice(facets)


def _ask_facet(topic: Topic, _material: Material, rng: Random, is_new: bool) -> Asked | None:
    facet = _draw_facet(topic.symbol, rng)
    wordings = (NEW_IT_FACETS if is_new else IT_FACETS)[facet] if facet else ()
    return Asked(rng.choice(wordings), f"{topic.symbol.title}: {facet}") if wordings else None


def _ask_parameter(topic: Topic, material: Material, rng: Random, is_new: bool) -> Asked | None:
    names = list_parameters(topic.symbol, material)
    if not names:
        return None
    name = rng.choice(names)
    return Asked(
        rng.choice(NEW_IT_PARAMETER if is_new else IT_PARAMETER).format(p=name), f"{topic.symbol.title}: {name}"
    )


def _ask_package(topic: Topic, material: Material, rng: Random, is_new: bool) -> Asked | None:
    other = material.shown.pick_namesake(topic.symbol.title, rng)
    if other is None or "." not in other:
        return None
    module = other.partition(".")[0]
    question = rng.choice(NEW_PACKAGE if is_new else PACKAGE).format(m=module)
    return Asked(question, join_module(module, topic.symbol.title))


def _ask_sibling(topic: Topic, material: Material, rng: Random, is_new: bool) -> Asked | None:
    other = material.shown.pick_sibling(topic.symbol.title, rng)
    if other is None or "." not in other:
        return None
    typed = other if rng.random() < 0.3 else other.rpartition(".")[2]
    question = rng.choice(NEW_SIBLING if is_new else SIBLING).format(y=typed)
    return Asked(question, join_sibling(topic.symbol.title, typed))


def _ask_against(topic: Topic, material: Material, rng: Random, is_new: bool) -> Asked | None:
    other = _pick_other(topic, material, rng)
    if other is None or "." not in other:
        return None
    module = topic.symbol.title.rpartition(".")[0]
    is_sibling = other.rpartition(".")[0] == module
    typed = other.rpartition(".")[2] if is_sibling and rng.random() < 0.6 else other
    question = rng.choice(NEW_AGAINST if is_new else AGAINST).format(y=typed)
    return Asked(question, f"{topic.symbol.title}; {join_sibling(topic.symbol.title, typed)}")


def _ask_ordinal(topic: Topic, _material: Material, rng: Random, is_new: bool) -> Asked | None:
    if len(topic.compared) != 2:
        return None
    number = rng.randrange(2)
    return Asked(rng.choice((NEW_ORDINAL if is_new else ORDINAL)[number]), topic.compared[number])


def _ask_other_name(topic: Topic, material: Material, rng: Random, is_new: bool) -> Asked:
    return ask_name(shorten_name(rng.choice(material.symbols).title, rng), rng, is_new=is_new)


FIRST: dict[str, Ask] = {"name": _ask_name_first, "facet": _ask_facet_first, "compare": _ask_comparison_first}
LATER: dict[str, Ask] = {
    "facet": _ask_facet,
    "parameter": _ask_parameter,
    "package": _ask_package,
    "sibling": _ask_sibling,
    "against": _ask_against,
    "ordinal": _ask_ordinal,
    "name": _ask_other_name,
}


def _cut_before_last_result(examples: list[Example]) -> list[Example]:
    """Return the conversations up to their last call, which is the reply to score."""
    return [example._replace(messages=example.messages[:-2]) for example in examples]


FOLLOW_UP = Skill(
    name="followup_exact",
    title="Follow-up questions",
    meaning="“and its arguments?”, “in scipy?”, “the second one” → the search that is meant, to the character",
    max_drop=0.08,
    applies=lambda item: item.kind == "followup",
    is_right=has_expected_call,
    makers=(Maker("followup", "followup", partial(make_from_symbols, make_follow_up), _cut_before_last_result),),
)
