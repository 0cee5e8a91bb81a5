"""Skills: quote the passage that answers, with its source; abstain where no passage answers.

An answer has a closed form, because a small model learns that exactly. It starts with the name that was asked for: by
repeating it, the model compares it token by token with the titles above the passages, and knows by its end whether one
of them is the same. A quote has one other passage beside the right one, before or after it, or none. An abstention has
passages as near as a search could return: of the same module, with the same last name elsewhere, with a similar name.
"""

from __future__ import annotations

from functools import partial
from random import Random

from model.grounding.answers import format_abstention, format_quote, is_abstention, parse_quote
from model.grounding.matching import is_about
from model.tokenizer.chat import Message
from pipeline.skills.lookups import contains_name, format_passages, make_from_passages, make_turns
from pipeline.skills.skill import Example, Item, Maker, Material, Skill
from pipeline.skills.wordings import ask_about, ask_name
from pipeline.text.passage import Passage

ALONE_FRAC = 0.2  # the search returned one passage only
NOTHING_FRAC = 0.08  # of the abstentions: the search returned nothing at all
INVENTED_FRAC = 0.35  # of the abstentions: no such name exists


def make_quote(passage: Passage, material: Material, rng: Random, is_new: bool = False) -> Example:
    """Return a conversation that quotes this passage."""
    asked = ask_about(passage, rng, is_new=is_new)
    results = [passage]
    if rng.random() >= ALONE_FRAC:
        other = material.shown.pick_neighbor(passage, rng)
        if other.title != passage.title:
            # Where both answer the question the first one is quoted, so the right one has to come first.
            index = 0 if is_about(other.title, asked.name) or rng.random() < 0.5 else 1
            results.insert(1 - index, other)
    answer = format_quote(asked.name, passage.sentence, passage.title)
    expected = {"answer": answer, "quote": passage.sentence, "source": passage.title, "symbol": asked.name}
    return Example("quote", make_turns(asked, results, answer, rng), expected)


def make_abstention(passage: Passage, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a conversation in which this passage is withheld from the result, or whose name does not exist.

    None if the invented name exists, or if what the search returned would answer.
    """
    asked = ask_about(passage, rng, is_new=is_new)
    if passage.is_symbol and rng.random() < INVENTED_FRAC:
        asked = ask_name(material.shown.invent_name(passage, rng), rng, is_new=is_new)
        if material.known.has_answer(asked.name):
            return None
    results: list[Passage] = []
    if rng.random() >= NOTHING_FRAC:
        results = [material.shown.pick_neighbor(passage, rng) for _ in range(1 if rng.random() < ALONE_FRAC else 2)]
    if any(is_about(other.title, asked.name) or other.title == passage.title for other in results):
        return None
    is_repeated = len({other.title for other in results}) < len(results)
    if is_repeated or contains_name(format_passages(results), asked.name):
        return None
    answer = format_abstention(asked.name)
    return Example("abstain", make_turns(asked, results, answer, rng), {"answer": answer, "symbol": asked.name})


def _quotes_exactly(item: Item, reply: Message) -> bool:
    quoted = parse_quote(reply.text)
    return quoted is not None and (quoted.text, quoted.title) == (item.expected["quote"], item.expected["source"])


def _abstains(item: Item, reply: Message) -> bool:
    return reply.call is None and is_abstention(reply.text, item.expected["symbol"])


QUOTE = Skill(
    name="quote_exact",
    title="Quote with source",
    meaning="the sentence verbatim, and the title of its passage",
    max_drop=0.08,
    applies=lambda item: item.kind == "quote",
    is_right=_quotes_exactly,
    makers=(
        Maker("quote", "quote", partial(make_from_passages, make_quote)),
        Maker("abstain", "abstain", partial(make_from_passages, make_abstention)),
    ),
)
ABSTENTION = Skill(
    name="abstention_right",
    title="Abstains without an answer",
    meaning="none of the passages found answers the question",
    max_drop=0.06,
    applies=lambda item: item.kind == "abstain",
    is_right=_abstains,
)
