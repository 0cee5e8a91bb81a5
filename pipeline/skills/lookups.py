"""Examples of looking things up: which tool to call with which words, what to quote, when to say that nothing was found.

In: passages, a random generator. Out: conversations as messages with what a scorer expects. Every quote is made with
one other passage beside it or none, the right one first or second; an abstention has passages that are as near as a
search could bring: of the same module, of the same last name elsewhere, of a similar name. Time: O(1) an example.
Memory: the passages and three indices over them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

from model.tokenizer.chat import Message, ToolCall, call_to_json
from pipeline.skills.answers import abstention, quote, shown
from pipeline.skills.wordings import Asked, ask, ask_name, ask_words, is_about, task_words, with_text
from pipeline.text.passage import Passage

MAX_SENTENCE_CHARS = 160
MIN_SENTENCE_WORDS = 3
MAX_TITLE_CHARS = 72
GIVEN_FRAC = 0.15  # the text comes with the question, no search is needed
ALONE_FRAC = 0.2  # the search found one passage only
NOTHING_FRAC = 0.08  # of the abstentions: the search found nothing at all
INVENTED_FRAC = 0.35  # of the abstentions: no such name exists
NEAR = (("tail", 0.4), ("module", 0.75), ("similar", 0.9), ("any", 1.0))


class Example(NamedTuple):
    """`messages` end with the assistant's answer; `expected` says what a scorer looks for when that answer is left out."""

    kind: str
    messages: list[Message]
    expected: dict[str, Any]


def is_quotable(passage: Passage) -> bool:
    """Public, short enough to be learnt, and a whole sentence that stands in the passage."""
    return (
        not (passage.is_symbol and "._" in "." + passage.title)
        and len(passage.sentence) <= MAX_SENTENCE_CHARS
        and len(passage.sentence.split()) >= MIN_SENTENCE_WORDS
        and len(passage.title) <= MAX_TITLE_CHARS
        and '"' not in passage.sentence
        and not passage.sentence.endswith(":")
        and passage.sentence in passage.text
    )


class Shelf:
    """Passages by module, by last name and in the order of their last names."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        self._by_module: dict[str, list[Passage]] = defaultdict(list)
        self._by_tail: dict[str, list[Passage]] = defaultdict(list)
        for passage in self.passages:
            module, tail = _split(passage)
            self._by_module[module].append(passage)
            self._by_tail[tail].append(passage)
        self._sorted = sorted(self.passages, key=lambda passage: (_split(passage)[1], passage.title))
        self._keys = [_split(passage)[1] for passage in self._sorted]

    def near(self, passage: Passage, rng: Random) -> Passage:
        """One that a search for `passage` could bring up as well; rarely itself."""
        chance = rng.random()
        way = next(name for name, limit in NEAR if chance < limit)
        module, tail = _split(passage)
        pool = self._by_tail[tail] if way == "tail" else self._by_module[module]
        if way == "similar" or (way == "tail" and len(pool) < 2 and chance < 0.2):
            at = bisect_left(self._keys, tail)
            pool = self._sorted[max(at - 4, 0) : at + 5]
        return rng.choice(pool) if way != "any" and len(pool) > 1 else rng.choice(self.passages)

    def answers(self, name: str) -> bool:
        """Whether some passage is about this name."""
        return any(is_about(passage.title, name) for passage in self._by_tail.get(name.rpartition(".")[2], ()))

    def invented(self, passage: Passage, rng: Random) -> str:
        """A name that nothing has: this module with another one's last name, or the last name with another word in it."""
        module, tail = _split(passage)
        other = _split(rng.choice(self.passages))[1]
        words = [*tail.split("_"), *other.split("_")]
        rng.shuffle(words)
        return f"{module}.{other if rng.random() < 0.5 else '_'.join(words[: rng.randint(1, 3)])}".lstrip(".")


def _split(passage: Passage) -> tuple[str, str]:
    """Module and last name; of prose, the document and its part."""
    head, _, tail = passage.title.rpartition("." if passage.is_symbol else " §")
    return (head, tail) if passage.is_symbol else (head or passage.title, passage.title)


def quote_example(passage: Passage, shelf: Shelf, rng: Random, *, is_new: bool = False) -> Example:
    asked = ask(passage, rng, is_new=is_new)
    found = [passage]
    if rng.random() >= ALONE_FRAC:
        other = shelf.near(passage, rng)
        if other.title != passage.title:
            # Where both answer the question the first one is quoted, so the right one has to come first.
            place = 0 if is_about(other.title, asked.name) or rng.random() < 0.5 else 1
            found.insert(1 - place, other)
    answer = quote(asked.name, passage.sentence, passage.title)
    expected = {"answer": answer, "quote": passage.sentence, "source": passage.title, "symbol": asked.name}
    return Example("quote", _turns(asked, found, answer, rng), expected)


def abstain_example(
    passage: Passage, shelf: Shelf, known: Shelf, rng: Random, *, is_new: bool = False
) -> Example | None:
    """The passage asked for is withheld, or its name is one that nothing `known` has. None if what was found would answer."""
    asked = ask(passage, rng, is_new=is_new)
    if passage.is_symbol and rng.random() < INVENTED_FRAC:
        asked = ask_name(shelf.invented(passage, rng), rng, is_new=is_new)
        if known.answers(asked.name):
            return None
    found: list[Passage] = []
    if rng.random() >= NOTHING_FRAC:
        found = [shelf.near(passage, rng) for _ in range(1 if rng.random() < ALONE_FRAC else 2)]
    if any(is_about(other.title, asked.name) or other.title == passage.title for other in found):
        return None
    if names_in(shown([(other.title, other.text) for other in found]), asked.name) or len(
        {p.title for p in found}
    ) < len(found):
        return None
    answer = abstention(asked.name)
    return Example("abstain", _turns(asked, found, answer, rng), {"answer": answer, "symbol": asked.name})


def names_in(text: str, name: str) -> bool:
    """Whether `name` stands in the text as a whole name, or as the end of a longer one."""
    at = text.find(name)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(name) : at + len(name) + 2]
        is_start = not (before.isalnum() or before == "_")
        is_end = not after or not (after[0].isalnum() or after[0] == "_" or (after[0] == "." and after[1:].isalpha()))
        if is_start and is_end:
            return True
        at = text.find(name, at + 1)
    return False


def search_example(passage: Passage, rng: Random, *, is_new: bool = False) -> Example:
    """Only the call."""
    asked = ask(passage, rng, is_new=is_new)
    return Example("search", _search(asked), _call_expected(asked))


def words_example(passage: Passage, shelf: Shelf, rng: Random, *, is_new: bool = False) -> Example | None:
    """A task in words, searched for with these words; one in four times nothing fitting is found."""
    words = task_words(passage.sentence, rng)
    if words is None:
        return None
    asked = ask_words(words, rng, is_new=is_new)
    other = rng.choice(shelf.passages)
    if other.title == passage.title or task_words(other.sentence, rng) == words:
        return None
    if rng.random() < 0.25:
        found, answer = [other], abstention()
    else:
        found, answer = [passage, other], quote(passage.title, passage.sentence, passage.title)
        rng.shuffle(found)
    return Example(
        "search", _turns(asked, found, answer, rng, given_frac=0.0), _call_expected(asked) | {"is_words": True}
    )


def _call_expected(asked: Asked) -> dict[str, Any]:
    return {"call": call_to_json(ToolCall.of("search_docs", asked.name))}


def _search(asked: Asked) -> list[Message]:
    return [Message.of("user", asked.question), Message.calling(ToolCall.of("search_docs", asked.name))]


def _turns(
    asked: Asked, found: Sequence[Passage], answer: str, rng: Random, given_frac: float = GIVEN_FRAC
) -> list[Message]:
    text = shown([(passage.title, passage.text) for passage in found])
    if found and rng.random() < given_frac:
        return [Message.of("user", with_text(asked.question, text, rng)), Message.of("assistant", answer)]
    return [*_search(asked), Message.result(text), Message.of("assistant", answer)]
