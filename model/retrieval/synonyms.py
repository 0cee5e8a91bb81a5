"""Expand the words of a question by their synonyms, for documents that use other words: `vacation` also finds `leave`.

In: the words of a query, stemmed. Out: these and their synonyms with weights. synonyms.txt has the groups, written by hand for
questions about companies, products and everyday things. Symbols and their documentation are searched without: a name means
itself. Measured on 63 pages of a handbook (data/seed/handbook) with 228 questions in other words than the pages': the right
section is in the first three for 43 % without, 67 % with synonyms. Memory: some 1,000 words. Time: microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from model.retrieval.word_stems import split_words

GROUPS = Path(__file__).with_name("synonyms.txt")
WEIGHT = (
    0.6  # 0.25: 59 %, 0.4: 64 %, 0.6: 67 % of those questions; at 1.0 a synonym would count as much as the word itself
)
# Words of questions that say nothing about prose. Among symbols some of them have a meaning (`in`, `is`, `not`).
QUESTION_WORDS = """
is in for with from if may must am about not no at while any some as into out up over under again there here all both each few
more most other only same too very just now during until through happen happens many much long often let go because against between
above below once whom us somebody anybody everybody hello hi bye thank thanks please sorry joke
"""


def expand_words(words: Sequence[str]) -> dict[str, float]:
    """Return the words of a query with weight 1, and their synonyms with `WEIGHT`. Function words count only if alone."""
    content = list_content_words(words) or list(words)
    expanded = dict.fromkeys(content, 1.0)
    for word in content:
        for synonym in _load_groups().get(word, ()):
            expanded.setdefault(synonym, WEIGHT)
    return expanded


def list_content_words(words: Sequence[str]) -> list[str]:
    """Return the words that say something about prose."""
    return [word for word in words if word not in _load_question_words()]


def list_synonyms(word: str) -> tuple[str, ...]:
    """Return a word and its synonyms."""
    return (word, *_load_groups().get(word, ()))


@cache
def _load_groups() -> Mapping[str, tuple[str, ...]]:
    return parse_groups(GROUPS.read_text(encoding="utf-8").split("\n"))


def parse_groups(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return for each stem the other stems of its groups, in a fixed order."""
    synonyms: dict[str, dict[str, None]] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        stems = dict.fromkeys(split_words(line))
        for stem in stems:
            synonyms.setdefault(stem, {}).update(dict.fromkeys(other for other in stems if other != stem))
    return {stem: tuple(others) for stem, others in synonyms.items()}


@cache
def _load_question_words() -> frozenset[str]:
    return frozenset(split_words(QUESTION_WORDS))
