"""Skills: quote the passage that answers, with its source; abstain where no passage answers.

An answer has a closed form, because a small model learns that exactly. It starts with the name that was asked for: by
repeating it, the model compares it token by token with the titles above the passages, and knows by its end whether one
of them is the same. Names are typed in full, by an alias, by their end, or with a typo, which the search corrects. An
abstention is about a name that does not exist, beside what the search returns for it: names of other packages with the same
last part, similar ones, or nothing.
"""

from __future__ import annotations

from functools import partial
from random import Random

from model.grounding.answers import format_abstention, is_abstention, list_answers, parse_passages, parse_quote
from model.grounding.arguments import MODULES
from model.grounding.matching import EXACT, measure_closeness
from model.tokenizer.chat import Message
from pipeline.skills.lookups import Asked, make_from_symbols, make_turns, quote_main, read_result
from pipeline.skills.neighbors import Subject, misspell
from pipeline.skills.skill import Example, Item, Maker, Material, Skill
from pipeline.skills.wordings import ask_name, ask_spoken, ask_title, is_method, shorten_name, type_member

TYPO_FRAC = 0.08
LOWER_FRAC = 0.04  # `dataframe.groupby`
SPOKEN_FRAC = 0.2  # of the names with two parts: `numpy sum`
MEMBER_FRAC = 0.1  # of the methods: `df.head`
PROSE_FRAC = 0.08  # of the quotations: of guides and texts, if there are any
GIVEN_FRAC = 0.08  # the text comes with the question, no search is needed
# fmt: off
WITH_TEXT = (
    "{text}\n\n{question}", "{question}\n\n{text}", "Context:\n{text}\n\nQuestion: {question}",
    "Here is a text:\n{text}\n\n{question}", "Answer from this:\n{text}\n\n{question}",
    "{question} Use this:\n{text}", "Documentation:\n{text}\n{question}", "I found this:\n{text}\n\n{question}",
    "{question}\nContext: {text}",
)
# fmt: on


def make_quote(symbol: Subject, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a conversation that quotes the documentation of a name, or now and then of a text; None if it can't be quoted."""
    if symbol.title not in material.known.symbols:
        return _make_quote_of_text(symbol.title, material, rng, is_new)
    if material.texts and rng.random() < PROSE_FRAC:
        title = rng.choice(material.texts)
        return None if " §" in title else _make_quote_of_text(title, material, rng, is_new)
    asked, name = _ask(symbol.title, rng, is_new)
    result, passages = read_result(material, asked)
    tail = name.rpartition(".")[2]
    about = [each for each in passages if measure_closeness(each.title, name) == EXACT] or [
        each for each in passages[:1] if each.title.rpartition(".")[2] == tail and asked.argument == name
    ]
    if not about or (asked.argument != name and about[0].title != symbol.title):
        return None
    return _make_example(asked, result, quote_main(asked.argument, passages, about[0].title), rng)


def _ask(title: str, rng: Random, is_new: bool) -> tuple[Asked, str]:
    """Return a question about a name, and the name that is meant: another one than the argument where it has a typo."""
    chance = rng.random()
    if chance < SPOKEN_FRAC and title.count(".") == 1 and title.partition(".")[0] in MODULES:
        return ask_spoken(title, rng, is_new=is_new), title
    if SPOKEN_FRAC <= chance < SPOKEN_FRAC + MEMBER_FRAC and is_method(title):
        name = type_member(title, rng)
        return ask_name(name, rng, is_new=is_new), name
    name = shorten_name(title, rng)
    if rng.random() < LOWER_FRAC:
        name = name.lower()
    typed = misspell(name, rng) if rng.random() < TYPO_FRAC else name
    return ask_name(typed, rng, is_new=is_new), name


def _make_quote_of_text(title: str, material: Material, rng: Random, is_new: bool) -> Example | None:
    asked = ask_title(title, rng, is_new=is_new)
    result, passages = read_result(material, asked)
    # A search in words finds other texts too: the one whose title was typed is quoted.
    return _make_example(asked, result, quote_main(asked.argument, passages, title), rng)


def _make_example(asked: Asked, result: str, answer: str | None, rng: Random) -> Example | None:
    quoted = parse_quote(answer) if answer else None
    if answer is None or quoted is None or answer not in list_answers(asked.argument, result):
        return None
    expected = {"answer": answer, "quote": quoted.text, "source": quoted.title, "symbol": asked.argument}
    if rng.random() < GIVEN_FRAC:
        question = rng.choice(WITH_TEXT).format(text=result, question=asked.question)
        messages = [Message.of("user", question), Message.of("assistant", answer)]
    else:
        messages = make_turns(asked, result, answer, rng)
    return Example("quote", messages, expected)


def make_abstention(symbol: Subject, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a conversation about a name that does not exist; None if it exists, or if what the search returned would answer."""
    if symbol.title not in material.known.symbols:
        return _make_abstention_of_text(symbol.title, material, rng, is_new)
    name = material.known.invent_name(symbol.title, rng)
    if "." in name and rng.random() < 0.3:  # of another package: the last part exists, but not there
        name = f"{name.partition('.')[0]}.{symbol.title.rpartition('.')[2]}"
    if material.known.has_answer(name) or material.known.has_in_package(name):
        return None
    asked = ask_name(name, rng, is_new=is_new)
    result, passages = read_result(material, asked)
    if any(measure_closeness(passage.title, name) == EXACT for passage in passages) or _is_corrected(name, result):
        return None
    answer = format_abstention(name)
    return Example("abstain", make_turns(asked, result, answer, rng), {"answer": answer, "symbol": name})


def _make_abstention_of_text(title: str, material: Material, rng: Random, is_new: bool) -> Example | None:
    """Return a conversation about a title made of the words of two titles, which no text has."""
    words, other = title.split(), rng.choice(material.texts).split()
    invented = " ".join(
        [*words[: rng.randint(1, len(words))], *other[rng.randrange(len(other)) :], str(rng.randint(100, 999))]
    )
    asked = ask_title(invented, rng, is_new=is_new)
    result, _ = read_result(material, asked)
    answer = format_abstention(asked.argument)
    if answer not in list_answers(asked.argument, result):
        return None
    return Example("abstain", make_turns(asked, result, answer, rng), {"answer": answer, "symbol": asked.argument})


def _is_corrected(name: str, result: str) -> bool:
    """Return whether a title differs from the name by so little that it could be a typo."""
    return any(_count_edits(passage.title.lower(), name.lower()) <= 2 for passage in parse_passages(result))


def _count_edits(first: str, second: str) -> int:
    """Return Levenshtein's distance of the names' last parts, of which a swap counts as two."""
    first, second = first.rpartition(".")[2], second.rpartition(".")[2]
    row = list(range(len(second) + 1))
    for number, character in enumerate(first, 1):
        above, row[0] = row[0], number
        for at, other in enumerate(second, 1):
            above, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, above + (character != other))
    return row[-1]


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
        Maker("quote", "quote", partial(make_from_symbols, make_quote, or_texts=True)),
        Maker("abstain", "abstain", partial(make_from_symbols, make_abstention, or_texts=True)),
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
