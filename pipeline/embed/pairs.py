"""Make the pairs that train the embedder: a title, a first sentence or a hand-written question, and the text that answers it.

In: the parts of all units as counts of known words; which units may be learned from; questions for training. Out: batches. Some of
the first sentences lose the words of their symbol's name, and words of both sides are left out at random, so that an answer is
found by what it says and not only by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.embedder_training import PairBatch
from pipeline.embed.params import Embedding
from pipeline.embed.word_counts import Counts, add_rows, mark_shared, stack_rows

MIN_WORDS = 4  # of a text that may be an answer, and of one that asks: 2
Rows = NDArray[np.int64]


class Texts(NamedTuple):
    """The parts of all units, and sums of them."""

    titles: Counts
    firsts: Counts
    bare_firsts: Counts  # without the words of the title
    bodies: Counts  # title and rest
    untitled: Counts  # first sentence and rest
    wholes: Counts


def make_texts(titles: Counts, firsts: Counts, rests: Counts, n_words: int) -> Texts:
    """Return the parts and their sums."""
    bare = firsts.keep(~mark_shared(firsts, titles))
    bodies = add_rows(titles, rests, n_words)
    return Texts(titles, firsts, bare, bodies, add_rows(firsts, rests, n_words), add_rows(bodies, firsts, n_words))


class PairSampler:
    """Draws batches of pairs."""

    def __init__(
        self,
        params: Embedding,
        texts: Texts,
        learned: Rows,
        groups: Rows,
        questions: Counts,
        answers: Sequence[Sequence[int]],
    ) -> None:
        """`learned`: rows that may be learned from. `groups`: equal for rows with the same text. `answers`: rows by question."""
        self._params, self._texts, self._groups = params, texts, groups
        self._questions, self._answers = questions, answers
        sizes = np.diff(texts.bodies.starts)[learned]
        asks = np.minimum(np.diff(texts.firsts.starts), np.diff(texts.bodies.starts))[learned]
        self._with_first = learned[(asks >= 2) & (sizes >= MIN_WORDS)]
        self._with_title = learned[np.diff(texts.untitled.starts)[learned] >= MIN_WORDS]

    def is_empty(self) -> bool:
        """Return whether there are too few documents for a batch."""
        return min(len(self._with_first), len(self._with_title)) < 2

    def draw(self, random: np.random.Generator) -> PairBatch:
        """Return one batch."""
        params, texts = self._params, self._texts
        n_questions = min(params.question_pairs, self._questions.n_rows, params.batch_pairs)
        n = params.batch_pairs - n_questions
        n_titles = round(n * params.title_frac)
        by_first = _choose(random, self._with_first, n - n_titles)
        by_title = _choose(random, self._with_title, n_titles)
        has_own = random.random(len(by_first)) < params.own_word_frac
        own, bare = by_first[has_own], by_first[~has_own]
        numbers = _choose(random, np.arange(self._questions.n_rows), n_questions)
        answers = np.array([random.choice(self._answers[number]) for number in numbers], np.int64)
        asked = [
            texts.firsts.take(own),
            texts.bare_firsts.take(bare),
            texts.titles.take(by_title),
            self._questions.take(numbers),
        ]
        answered = [
            texts.bodies.take(np.concatenate([own, bare])),
            texts.untitled.take(by_title),
            texts.wholes.take(answers),
        ]
        rows = np.concatenate([own, bare, by_title, answers])
        return PairBatch(
            self._drop_words(stack_rows(asked), random),
            self._drop_words(stack_rows(answered), random),
            self._groups[rows],
        )

    def _drop_words(self, counts: Counts, random: np.random.Generator) -> Counts:
        return counts.keep(random.random(len(counts.ids)) >= self._params.dropout_frac)


def _choose(random: np.random.Generator, rows: Rows, n: int) -> Rows:
    return random.choice(rows, n, replace=n > len(rows)) if n else rows[:0]
