"""Skills: search for a name, or for a task in words (`How do I sort a list?`), and quote the passage that fits.

In: symbols, questions written by hand, a search, a random generator. Out: for a name, the call alone; for a task, the call with the
question's content words, what the search returns for them, and a quotation of each passage that answers (two at most), or an
abstention. The words of a task come from a symbol's first sentence (`Compute the norm of a matrix.`); questions written by
hand share few words with what answers them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from random import Random
from typing import Any

from model.grounding.answers import (
    NOTHING_FOUND,
    Shown,
    format_abstention,
    is_abstention,
    list_answers,
    list_pieces,
    parse_passages,
    parse_quotes,
)
from model.grounding.arguments import extract_content_words
from model.grounding.matching import split_facet
from model.tokenizer.chat import Message, call_to_json
from pipeline.skills.lookups import (
    Asked,
    call_search,
    is_choosable,
    make_from_symbols,
    make_turns,
    quote_main,
    read_result,
)
from pipeline.skills.neighbors import Subject
from pipeline.skills.skill import (
    Example,
    Item,
    Maker,
    Material,
    Skill,
    WrittenQuestion,
    cut_before_result,
    has_expected_call,
)
from pipeline.skills.wordings import ask_name, ask_title, shorten_name

WITHHELD_FRAC = 0.25  # of the tasks: the passage that fits is left out of the result
PACKAGE_FRAC = 0.2  # … in numpy
MAX_SHARED = 0.5  # of a task's words that a passage which does not answer may have
MAX_LINES = 2
# fmt: off
WORDS = (
    "How do I {x}?", "how do I {x}", "How can I {x}?", "how to {x}", "How to {x}?", "how can I {x}?",
    "I want to {x}.", "Is there a function to {x}?", "Which function lets me {x}?", "What can I use to {x}?",
    "I need to {x}.", "How would I {x}?", "Can you tell me how to {x}?", "Find me something to {x}.",
    "What is the way to {x}?", "what's the best way to {x}", "What's the easiest way to {x}?", "I'm trying to {x}, how?",
    "how do you {x}", "how do you {x} in python", "Any function that can {x}?", "need to {x}", "is it possible to {x}?",
    "Python: {x}", "{x} in python", "Hi, how do I {x}?", "what should I use if I want to {x}",
    "Could you show me how to {x}?",
    "How can one {x}?", "tell me how to {x} please", "method to {x}", "{x}",
)
NEW_WORDS = (
    "What lets me {x}?", "Please tell me how to {x}.", "How does one {x}?", "I have to {x} somehow.",
    "which call would {x}",
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


def make_name_search(symbol: Subject, material: Material, rng: Random, is_new: bool = False) -> Example:
    """Return a question about a name, or about a text where there are no names, and the call."""
    if symbol.title not in material.known.symbols:
        asked = ask_title(symbol.title, rng, is_new=is_new)
    else:
        asked = ask_name(shorten_name(symbol.title, rng), rng, is_new=is_new)
    return Example("search", [Message.of("user", asked.question), call_search(asked.argument)], _expect(asked))


def make_task_search(symbol: Subject, material: Material, rng: Random, is_new: bool = False) -> Example | None:
    """Return a question about a task in words; None if the symbol describes none, or if it is not clear what answers it."""
    main = next(
        (each for each in parse_passages(material.search(symbol.title, "")) if each.title == symbol.title), None
    )
    task = extract_task(list_pieces(main)[0], rng) if main and main.text.startswith('"') else None
    if main is None or task is None:
        return None
    if rng.random() < PACKAGE_FRAC:
        task = f"{task} {rng.choice(('in', 'with', 'using'))} {symbol.title.partition('.')[0]}"
    question = rng.choice(NEW_WORDS if is_new else WORDS).format(x=task)
    asked = Asked(question, extract_content_words(question))
    _, passages = read_result(material, asked)
    sentence = list_pieces(main)[0]
    fitting = [each.title for each in passages if list_pieces(each)[:1] == [sentence]]
    if fitting and rng.random() < WITHHELD_FRAC:
        passages, fitting = [each for each in passages if each.title not in fitting], []
    return _make_words_example("task", asked, passages, fitting, rng)


def make_written_examples(n: int, material: Material, rng: Random) -> list[Example]:
    """Return an example of each question written by hand, in random order, each again when all are used up; held out, once."""
    pool = list(material.questions)
    rng.shuffle(pool)
    made = (_make_written(each, material, rng) for each in islice(pool if material.is_heldout else cycle(pool), n))
    return [example for example in made if example is not None and is_choosable(example)]


def _make_written(written: WrittenQuestion, material: Material, rng: Random) -> Example | None:
    asked = Asked(written.question, extract_content_words(written.question))
    _, passages = read_result(material, asked)
    names = {split_facet(title).name for title in written.titles}
    fitting = [each.title for each in passages if split_facet(each.title).name in names]
    return _make_words_example("question", asked, passages, fitting, rng)


def _make_words_example(
    kind: str, asked: Asked, passages: Sequence[Shown], fitting: Sequence[str], rng: Random
) -> Example | None:
    """Return the conversation that quotes the fitting passages, or abstains if there are none.

    None if a passage that is not known to fit may answer as well: it has most of the words.
    """
    is_unclear = not fitting and any(_measure_overlap(asked.argument, each) > MAX_SHARED for each in passages)
    if " " not in asked.argument or is_unclear:
        return None
    lines = [line for title in fitting if (line := quote_main(asked.argument, passages, title))]
    if fitting and not lines:
        return None
    result = "\n".join(f"[{each.title}] {each.text}" for each in passages) or NOTHING_FOUND
    answer = "\n".join(lines[:MAX_LINES]) or format_abstention(asked.argument)
    if answer not in list_answers(asked.argument, result):
        return None
    expected = _expect(asked) | {"sources": list(fitting), "symbol": asked.argument}
    return Example(kind, make_turns(asked, result, answer, rng), expected)


def _measure_overlap(argument: str, passage: Shown) -> float:
    """Return the fraction of the argument's words whose beginnings are in a passage or in its title."""
    words = {word.lower()[:5] for word in argument.split()}
    text = f"{passage.title} {passage.text}".lower()
    return sum(word in text for word in words) / max(len(words), 1)


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


def _expect(asked: Asked) -> dict[str, Any]:
    return {"call": call_to_json(call_search(asked.argument).call)}  # type: ignore[arg-type]


def _hold_out(examples: list[Example]) -> list[Example]:
    """Return each example up to the call, and once more up to the answer."""
    return [*cut_before_result(examples), *examples]


def _quotes_what_fits(item: Item, reply: Message) -> bool:
    quotes = parse_quotes(reply.text)
    if not item.expected["sources"]:
        return reply.call is None and is_abstention(reply.text, item.expected["symbol"])
    return bool(quotes) and all(quote.title in item.expected["sources"] for quote in quotes)


SEARCH = Skill(
    name="search_exact",
    title="Search for a name",
    meaning="the argument is exact to the character",
    max_drop=0.05,
    applies=lambda item: item.kind == "search",
    is_right=has_expected_call,
    makers=(Maker("search", "search", partial(make_from_symbols, make_name_search, or_texts=True)),),
)
SEARCH_WORDS = Skill(
    name="search_words_exact",
    title="Search by keywords",
    meaning="“how do I …” → the keywords of the question",
    max_drop=0.07,
    applies=lambda item: item.kind in ("task", "question") and item.is_first_turn,
    is_right=has_expected_call,
    makers=(
        Maker("task", "task", partial(make_from_symbols, make_task_search), _hold_out),
        Maker("question", "question", make_written_examples, _hold_out),
    ),
)
WORDS_ANSWER = Skill(
    name="words_answer_right",
    title="Passage chosen for a task",
    meaning="only passages that answer are quoted; abstention where the search found none",
    max_drop=0.08,
    applies=lambda item: item.kind in ("task", "question") and not item.is_first_turn,
    is_right=_quotes_what_fits,
)
