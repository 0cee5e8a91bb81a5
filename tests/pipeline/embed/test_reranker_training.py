from __future__ import annotations

import numpy as np
import pytest

from model.retrieval.reranker import apply_network
from model.retrieval.reranking.features import FEATURES
from pipeline.embed.params import Reranking
from pipeline.embed.reranker_training import (
    MIN_ANSWERED,
    N_SHOWN,
    RankedList,
    differentiate_lists,
    find_min_score,
    train_network,
)

PARAMS = Reranking(
    n_lists=1,
    question_weight=1.0,
    off_topic_frac=0.1,
    hidden=8,
    n_epochs=30,
    batch_lists=8,
    learning_rate=0.02,
    weight_decay=0.0,
)
N = len(FEATURES)


def make_lists(n: int, seed: int) -> list[RankedList]:
    """Return lists whose answer is the candidate with the largest value of the fifth feature from the end."""
    random = np.random.default_rng(seed)
    lists = []
    for _ in range(n):
        features = random.standard_normal((7, N)).astype(np.float32)
        lists.append(RankedList(features, features[:, -5] == features[:, -5].max(), 1.0))
    return lists


def count_right(weights: dict[str, np.ndarray], lists: list[RankedList]) -> float:
    return float(np.mean([each.is_answer[apply_network(weights, each.features).argmax()] for each in lists]))


def test_it_learns_what_answers_have_in_common() -> None:
    weights = train_network(PARAMS, make_lists(80, 1), N, seed=1)
    assert count_right(weights, make_lists(50, 2)) > 0.6
    untrained = train_network(PARAMS, [], N, seed=1)
    assert count_right(untrained, make_lists(50, 2)) < 0.3


def test_all_but_a_share_of_the_right_answers_reach_the_least_score() -> None:
    lists = make_lists(200, 1)
    weights = train_network(PARAMS, lists, N, seed=1)
    least = find_min_score(lists, weights, 0.1)
    scores = [apply_network(weights, each.features) for each in lists]
    best = [own[each.is_answer].max() for own, each in zip(scores, lists, strict=True)]
    shown = [score for own, score in zip(scores, best, strict=True) if score in np.sort(own)[-N_SHOWN:]]
    assert np.mean([score < least for score in shown]) == pytest.approx(0.1, abs=0.01)
    assert find_min_score(lists[: MIN_ANSWERED - 1], weights, 0.1) == -np.inf


def test_without_lists_it_leaves_the_fused_order() -> None:
    weights = train_network(PARAMS, [], N, seed=1)
    features = make_lists(1, 3)[0].features
    ranks = features[:, [FEATURES.index("bm25_reciprocal_rank"), FEATURES.index("cosine_reciprocal_rank")]].sum(axis=1)
    np.testing.assert_allclose(apply_network(weights, features), ranks, rtol=1e-5)


def test_the_gradient_is_that_of_the_loss() -> None:
    lists = [each._replace(weight=float(at + 1)) for at, each in enumerate(make_lists(3, 5))]
    random = np.random.default_rng(4)
    weights = train_network(PARAMS, lists, N, seed=1)
    weights["output"] = random.standard_normal(PARAMS.hidden).astype(np.float32)

    def compute_loss() -> float:
        losses = []
        for each in lists:
            scores = apply_network(weights, each.features).astype(np.float64)
            losses.append(each.weight * (np.log(np.exp(scores).sum()) - np.log(np.exp(scores[each.is_answer]).sum())))
        return float(sum(losses) / sum(each.weight for each in lists))

    standard = [(each.features - weights["means"]) / weights["scales"] for each in lists]
    gradients = differentiate_lists(weights, lists, standard)
    for name, at in (("output", 3), ("hidden_bias", 2)):
        weights[name][at] += 1e-2
        above = compute_loss()
        weights[name][at] -= 2e-2
        slope = (above - compute_loss()) / 2e-2
        weights[name][at] += 1e-2
        np.testing.assert_allclose(gradients[name][at], slope, rtol=0.05, atol=1e-3)
