"""Make items of evaluation from held-out documents, so that a run needs no downloaded set.

In: documents of the val split. Out: multiple choice (which sentence is the next one) and cloze items (the last word of a sentence
that the text before it has already). Items of a document are one group. Deterministic: chosen by the seed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from model.tokenizer.tokenizer import Tokenizer
from pipeline.evaluate.layouts import Choices, Gap
from pipeline.evaluate.measure import HeldoutDocuments

N_CHOICES = 4
MIN_CONTEXT_CHARS = 80  # less says too little about what follows
MAX_CONTEXT_CHARS = 600
SENTENCE_CHARS = (30, 250)  # of a choice
MAX_LENGTH_RATIO = 1.5  # of a wrong choice to the right one, so that length decides little
MIN_WORD_CHARS = 4
PER_DOCUMENT = 2
_BLANK_LINE = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_WORD = re.compile(r"[A-Za-z]{4,}")
_LAST_WORD = re.compile(r"^(?P<context>.*\S) (?P<word>[A-Za-z]{4,})[.!?]$", re.DOTALL)


class _Sentence(NamedTuple):
    document: str
    source: str
    context: str
    text: str


def make_next_sentences(documents: HeldoutDocuments, tokenizer: Tokenizer, n: int, seed: int) -> list[Choices]:
    """Return `n` items, or as many as the documents allow: three wrong sentences are from other documents of the same source."""
    rng = Random(seed)
    sentences = list(_iterate_sentences(documents, tokenizer))
    by_source: dict[str, list[_Sentence]] = {}
    for each in sentences:
        by_source.setdefault(each.source, []).append(each)
    rng.shuffle(sentences)
    items: list[Choices] = []
    used: Counter[str] = Counter()
    for each in sentences:
        if len(items) == n:
            break
        if used[each.document] == PER_DOCUMENT:
            continue
        wrong = _pick_wrong(each, by_source[each.source], rng)
        if len(wrong) == N_CHOICES - 1:
            texts = [each.text, *wrong]
            order = rng.sample(range(N_CHOICES), N_CHOICES)
            choices = tuple(" " + texts[index] for index in order)
            number = used[each.document]
            items.append(Choices(f"{each.document}:{number}", each.document, each.context, choices, order.index(0)))
            used[each.document] += 1
    return items


def _pick_wrong(right: _Sentence, others: Sequence[_Sentence], rng: Random) -> list[str]:
    """Return sentences of similar length from other documents, all different."""
    texts: list[str] = []
    for each in rng.sample(others, min(200, len(others))):
        ratio = len(each.text) / len(right.text)
        is_alike = 1 / MAX_LENGTH_RATIO <= ratio <= MAX_LENGTH_RATIO
        if each.document != right.document and is_alike and each.text not in (right.text, *texts):
            texts.append(each.text)
        if len(texts) == N_CHOICES - 1:
            break
    return texts


def _iterate_sentences(documents: HeldoutDocuments, tokenizer: Tokenizer) -> Iterator[_Sentence]:
    """Yield sentences of prose that follow enough text in their paragraph's document."""
    low, high = SENTENCE_CHARS
    for id_, source, ids in zip(documents.ids, documents.sources, documents.tokens, strict=True):
        text = tokenizer.decode(ids)
        at = 0
        for paragraph in _BLANK_LINE.split(text):
            start = text.index(paragraph, at)
            at = start + len(paragraph)
            position = start
            for sentence in _SENTENCE_END.split(paragraph):
                position = text.index(sentence, position)
                context = text[max(0, position - MAX_CONTEXT_CHARS) : position].rstrip()
                is_prose = sentence.endswith(".") and sentence.count("\n") <= 2 and "  " not in sentence
                joined = " ".join(sentence.split())
                if is_prose and position > start and len(context) >= MIN_CONTEXT_CHARS and low <= len(joined) <= high:
                    yield _Sentence(id_, source, context, joined)
                position += len(sentence)


def make_gaps(documents: HeldoutDocuments, tokenizer: Tokenizer, n: int, seed: int) -> list[Gap]:
    """Return `n` items, or as many as the documents allow."""
    rng = Random(seed)
    sentences = list(_iterate_sentences(documents, tokenizer))
    rng.shuffle(sentences)
    items: list[Gap] = []
    used: Counter[str] = Counter()
    for each in sentences:
        if len(items) == n:
            break
        match = _LAST_WORD.match(each.text)
        if match is None or used[each.document] == PER_DOCUMENT or match["word"] not in _WORD.findall(each.context):
            continue
        number = used[each.document]
        context = f"{each.context} {match['context']}"
        items.append(Gap(f"{each.document}:{number}", each.document, context, f" {match['word']}"))
        used[each.document] += 1
    return items


def find_repeated_word(context: str) -> str:
    """Return the word of at least four letters that a text has most often, of several the last one; empty if it has none."""
    words = _WORD.findall(context)
    counts = Counter(words)
    most = max(counts.values(), default=0)
    return next((word for word in reversed(words) if counts[word] == most), "")
