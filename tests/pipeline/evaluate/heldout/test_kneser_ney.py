"""The n-gram model is a distribution, and equals Kneser-Ney computed from its definition with dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluate.heldout.kneser_ney import KneserNey, count_context

BOS, VOCAB = 0, 7

Documents = st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=12), min_size=1, max_size=8)


def join(documents: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([token for ids in documents for token in (BOS, *ids)])


def make_corpus(n: int = 3_000, vocab_size: int = VOCAB, seed: int = 0) -> np.ndarray:
    """Return a stream with enough of all counts for estimated discounts: a random walk with few steps to choose from."""
    random = np.random.default_rng(seed)
    steps = random.choice([0, 0, 0, 1, 2, 5], size=n)
    stream = 1 + np.cumsum(steps) % (vocab_size - 1)
    stream[random.random(n) < 0.05] = BOS
    stream[0] = BOS
    return stream


class Naive:
    """Kneser-Ney by its definition: dictionaries of n-grams, one document after the other."""

    def __init__(self, stream: np.ndarray, vocab_size: int, order: int) -> None:
        self.vocab_size = vocab_size
        documents: list[list[int]] = []
        for token in stream.tolist():
            if token == BOS and documents:
                documents[-1].append(BOS)
            if token == BOS:
                documents.append([])
            documents[-1].append(token)
        raw = [Counter[tuple[int, ...]]() for _ in range(order)]
        for ids in documents:
            for end in range(1, len(ids)):
                for n in range(1, min(order, end + 1) + 1):
                    raw[n - 1][tuple(ids[end + 1 - n : end + 1])] += 1
        self.counts: list[dict[tuple[int, ...], int]] = []
        for n in range(1, order + 1):
            left = Counter(gram[1:] for gram in raw[n]) if n < order else Counter[tuple[int, ...]]()
            keeps_raw = {gram: count for gram, count in raw[n - 1].items() if n == order or (gram[0] == BOS and n > 1)}
            self.counts.append({**left, **keeps_raw})
        self.discounts = [self._discount(list(counts.values())) for counts in self.counts]
        self.followers: list[dict[tuple[int, ...], list[int]]] = []
        for counts in self.counts:
            by_context: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for gram, count in counts.items():
                by_context[gram[:-1]].append(count)
            self.followers.append(by_context)

    @staticmethod
    def _discount(counts: list[int]) -> list[float]:
        n = [sum(count == k for count in counts) for k in range(5)]
        if 0 in n[1:]:
            return [0, 0.5, 1.0, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        return [0, *found] if all(0 < d <= k for k, d in enumerate(found, 1)) else [0, 0.5, 1.0, 1.5]

    def probability(self, context: tuple[int, ...], token: int) -> float:
        lower = self.probability(context[1:], token) if context else 1 / self.vocab_size
        n = len(context)
        counts = self.followers[n].get(context)
        if not counts:
            return lower
        discounts = self.discounts[n]
        own = self.counts[n].get((*context, token), 0)
        reserved = sum(discounts[min(count, 3)] for count in counts)
        return (own - discounts[min(own, 3)] + reserved * lower) / sum(counts)


@pytest.mark.parametrize("vocab_size", [VOCAB, 70_000])  # contexts that are exact, and hashed ones
@pytest.mark.parametrize("order", [2, 3, 5])
def test_equals_the_definition(order: int, vocab_size: int) -> None:
    stream = make_corpus()
    model, naive = KneserNey(stream, bos_id=BOS, vocab_size=vocab_size, order=order), Naive(stream, vocab_size, order)
    document = [BOS, 1, 1, 2, 2, 2, 4, 5, 6, 6, 3, BOS]
    expected = [
        naive.probability(tuple(document[max(0, end - order + 1) : end]), document[end])
        for end in range(1, len(document))
    ]
    assert np.exp(-model.compute_nats([document])[0]) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(Documents, st.lists(st.integers(0, VOCAB - 1), max_size=6), st.sampled_from([2, 3, 5]))
def test_sums_to_one_after_any_context(documents: list[list[int]], context: list[int], order: int) -> None:
    stream = join([*documents, [1, 2, 3]])
    p = KneserNey(stream, bos_id=BOS, vocab_size=VOCAB, order=order).compute_distribution(context)
    assert p.sum() == pytest.approx(1.0)
    assert (p > 0).all()


def test_distribution_is_what_scores_use() -> None:
    model = KneserNey(make_corpus(), bos_id=BOS, vocab_size=VOCAB)
    document = [BOS, 3, 4, 4, 5]
    nats = model.compute_nats([document])[0]
    for end, value in enumerate(nats, 1):
        assert model.compute_distribution(document[:end])[document[end]] == pytest.approx(np.exp(-value))


def test_context_ends_at_the_start_of_the_document() -> None:
    stream = join([[1, 2], [3], []])
    assert count_context(stream, BOS).tolist() == [0, 1, 2, 3, 1, 2]
    model = KneserNey(make_corpus(), bos_id=BOS, vocab_size=VOCAB)
    alone, after = model.compute_nats([[BOS, 2, 2]])[0], model.compute_nats([[BOS, 5, 4], [BOS, 2, 2]])[1]
    assert alone.tolist() == after.tolist()


def test_a_rule_over_three_tokens_needs_a_higher_order() -> None:
    random, tokens = np.random.default_rng(0), [BOS, 1, 2, 3]
    for _ in range(3_000):
        tokens.append(1 + int(tokens[-1] + tokens[-3] + (random.random() < 0.1)) % (VOCAB - 1))
    train, held_out = np.array(tokens), [BOS, *tokens[-200:]]
    low, high = (
        KneserNey(train[:-200], bos_id=BOS, vocab_size=VOCAB, order=order).compute_nats([held_out])[0].mean()
        for order in (2, 5)
    )
    assert high < 0.6 < 1.5 < low < np.log(VOCAB)


@pytest.mark.parametrize("stream", [[], [BOS, 1], [1, BOS, 2, 3, 4, 5]])
def test_stream_must_be_documents(stream: list[int]) -> None:
    with pytest.raises(ValueError, match=r"<\|bos\|> \(0\); found .* tokens starting with"):
        KneserNey(np.array(stream, dtype=np.int64), bos_id=BOS, vocab_size=VOCAB)


def test_no_documents_have_no_nats() -> None:
    assert KneserNey(make_corpus(), bos_id=BOS, vocab_size=VOCAB).compute_nats([]) == []
