"""Skills: search for a name, or for a task in words (`How do I sort a list?`), with the right argument to the character.

In: passages, a random generator. Out: for a name, the call alone; for a task, whose words come from a passage's first
sentence (`Compute the norm of a matrix.`), the call, the result and a quote, or an abstention if nothing in the result fits.
"""

from __future__ import annotations

import re
from functools import partial
from random import Random
from typing import Any

from model.grounding.answers import format_abstention, format_quote
from model.tokenizer.chat import call_to_json
from pipeline.skills.lookups import make_from_passages, make_search_call, make_search_turns, make_turns
from pipeline.skills.skill import Example, Maker, Material, Skill, cut_before_result, has_expected_call
from pipeline.skills.wordings import Asked, ask_about
from pipeline.text.passage import Passage

UNANSWERED_FRAC = 0.25  # of the tasks in words: nothing in the result fits
# fmt: off
WORDS = (
    "How do I {x}?", "how do I {x}", "How can I {x}?", "how to {x}", "How to {x}?", "how can I {x}?",
    "I want to {x}.", "Is there a function to {x}?", "Which function lets me {x}?", "What can I use to {x}?",
    "I need to {x}.", "How would I {x}?", "Can you tell me how to {x}?", "Find me something to {x}.",
    "What is the way to {x}?",
)
NEW_WORDS = (
    "What lets me {x}?", "Please tell me how to {x}.", "How does one {x}?",
)
# fmt: on
_VERBS = frozenset(
    re.findall(
        r"\w+",
        "add append apply assign bind build calculate call cast change check clear close collect combine "
        "compare compile compute concatenate configure construct convert copy count create decode delete "
        "detect determine disable display download draw drop dump emit enable encode evaluate execute expand "
        "extract fetch fill filter find fit flatten format generate get group initialize insert install "
        "invert iterate join launch list load log look lock make map mark match measure merge modify move "
        "normalize open parse perform plot predict print process produce put query read rebuild record reduce "
        "register release remove rename render replace represent request reset resolve restore retrieve "
        "return reverse rotate round run sample save scale search select send serialize set show shift "
        "shuffle sort split start stop store strip sum swap switch test transform translate transpose "
        "truncate unpack update upload validate verify wait warn wrap write",
    )
)
_FIRST_WORD = re.compile(r"([A-Z][a-z]+) [a-z]")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z ,'-]*")
_TAIL_PHRASE = re.compile(
    r",? (?:along|with|for|using|from|in|on|by|as|if|when|that|which|so|after|before|and return) .*"
)


def make_name_search(passage: Passage, _material: Material, rng: Random, is_new: bool = False) -> Example:
    """Return a question about a passage's name, and the call."""
    asked = ask_about(passage, rng, is_new=is_new)
    return Example("search", make_search_turns(asked), _expect_call(asked))


def make_task_search(passage: Passage, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a question about a task in words, searched for with these words; None if the passage describes no such task."""
    task = extract_task(passage.sentence, rng)
    if task is None:
        return None
    asked = Asked(rng.choice(NEW_WORDS if is_new else WORDS).format(x=task), task)
    other = rng.choice(material.shown.passages)
    if other.title == passage.title or extract_task(other.sentence, rng) == task:
        return None
    if rng.random() < UNANSWERED_FRAC:
        results, answer = [other], format_abstention()
    else:
        results, answer = [passage, other], format_quote(passage.title, passage.sentence, passage.title)
        rng.shuffle(results)
    messages = make_turns(asked, results, answer, rng, given_frac=0.0)
    return Example("search", messages, _expect_call(asked) | {"is_words": True})


def extract_task(sentence: str, rng: Random) -> str | None:
    """Return a task in words: `Compute the norm of a matrix, along …` → `compute the norm of a matrix`.

    None for a sentence that does not start with a known verb, is not plain text, or is too short or too long.
    """
    match = _FIRST_WORD.match(sentence)
    if match is None or not _PLAIN.fullmatch(sentence.rstrip(".")):
        return None
    verb = match[1].lower()
    stem = next((form for form in (verb, verb.removesuffix("s"), verb.removesuffix("es")) if form in _VERBS), None)
    if stem is None:
        return None
    rest = sentence[len(verb) :].rstrip(".")
    if rng.random() < 0.5:
        rest = _TAIL_PHRASE.sub("", rest, count=1)
    phrase = ("get" if stem == "return" else stem) + rest
    return phrase if 3 <= len(phrase.split()) <= 11 else None


def _expect_call(asked: Asked) -> dict[str, Any]:
    return {"call": call_to_json(make_search_call(asked))}


SEARCH = Skill(
    name="search_exact",
    title="Search for a name",
    meaning="the argument is exact to the character",
    max_drop=0.05,
    applies=lambda item: item.kind == "search" and not item.expected.get("is_words"),
    is_right=has_expected_call,
    makers=(
        Maker("search", "search", partial(make_from_passages, make_name_search), cut_before_result),
        Maker("words", "search", partial(make_from_passages, make_task_search), cut_before_result),
    ),
)
SEARCH_WORDS = Skill(
    name="search_words_exact",
    title="Search by keywords",
    meaning="“how do I …” → the keywords of the question",
    max_drop=0.07,
    applies=lambda item: item.kind == "search" and bool(item.expected.get("is_words")),
    is_right=has_expected_call,
)
