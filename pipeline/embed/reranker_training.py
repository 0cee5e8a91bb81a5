"""Train the reranker: of the candidates of a list, those that answer must get the largest scores.

In: features of the candidates of many lists, which of them answer, a weight per list. Out: the weights of one hidden layer. Softmax
over each list (ListNet's top-one loss; Cao et al., ICML 2007), Adam, weight decay, a rate that falls to zero. A list without an
answer among its candidates teaches nothing and is left out.

Memory: the features. Time: 2 CPU-s for 2,000 lists of 60, 12 epochs. Same bytes for any number of threads (BLAS has one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.retrieval.reranker import apply_network, sum_ranks
from pipeline.embed.parallel import Matrix
from pipeline.embed.params import Reranking

BETAS = 0.9, 0.999
EPSILON = 1e-8
MIN_SCALE = 1e-3  # of a feature that hardly varies
N_SHOWN = 3  # passages of a search
MIN_ANSWERED = 30  # lists; of fewer no quantile of their answers' scores is taken


class RankedList(NamedTuple):
    """Features of the candidates of one query, which of them answer it, and how much the list counts."""

    features: Matrix
    is_answer: NDArray[np.bool_]
    weight: float


def train_network(params: Reranking, lists: Sequence[RankedList], n_features: int, seed: int) -> dict[str, Matrix]:
    """Return means and scales of the features, and the weights."""
    usable = [each for each in lists if each.is_answer.any() and not each.is_answer.all()]
    random = np.random.default_rng(seed)
    table = np.concatenate([each.features for each in usable]) if usable else np.zeros((1, n_features), np.float32)
    weights = {
        "means": table.mean(axis=0, dtype=np.float64).astype(np.float32),
        "scales": np.maximum(table.std(axis=0, dtype=np.float64), MIN_SCALE).astype(np.float32),
        "hidden": (random.standard_normal((n_features, params.hidden)) / np.sqrt(n_features)).astype(np.float32),
        "hidden_bias": np.zeros(params.hidden, np.float32),
        "output": np.zeros(params.hidden, np.float32),  # so that training starts from the fused order
    }
    standard = [(each.features - weights["means"]) / weights["scales"] for each in usable]
    _descend(params, weights, usable, standard, random)
    return weights


def find_min_score(lists: Sequence[RankedList], weights: dict[str, Matrix], off_topic_frac: float) -> float:
    """Return the score that all but `off_topic_frac` of the answers that are shown reach: the best answer of each list, where it is
    among the first `N_SHOWN`. Return minus infinity if these are too few."""
    scores: list[float] = []
    for each in lists:
        own = apply_network(weights, each.features)
        best = own[each.is_answer].max(initial=-np.inf)
        if np.isfinite(best) and (own > best).sum() < N_SHOWN:
            scores.append(float(best))
    return float(np.quantile(scores, off_topic_frac)) if len(scores) >= MIN_ANSWERED else -np.inf


def _descend(
    params: Reranking,
    weights: dict[str, Matrix],
    lists: Sequence[RankedList],
    standard: Sequence[Matrix],
    random: np.random.Generator,
) -> None:
    """Change the weights in place."""
    learned = ("hidden", "hidden_bias", "output")
    moments = {name: (np.zeros_like(weights[name]), np.zeros_like(weights[name])) for name in learned}
    n_steps = params.n_epochs * -(-len(lists) // params.batch_lists)
    step = 0
    for _ in range(params.n_epochs):
        order = random.permutation(len(lists))
        for start in range(0, len(order), params.batch_lists):
            batch = order[start : start + params.batch_lists]
            gradients = differentiate_lists(weights, [lists[i] for i in batch], [standard[i] for i in batch])
            rate = params.learning_rate * (1 - step / n_steps)
            step += 1
            for name in learned:
                _move(weights[name], gradients[name], moments[name], rate, params.weight_decay, step)


def _move(
    weight: Matrix, gradient: Matrix, moments: tuple[Matrix, Matrix], rate: float, decay: float, step: int
) -> None:
    first, second = moments
    first += (1 - BETAS[0]) * (gradient - first)
    second += (1 - BETAS[1]) * (gradient * gradient - second)
    mean, spread = first / (1 - BETAS[0] ** step), second / (1 - BETAS[1] ** step)
    weight -= (rate * (mean / (np.sqrt(spread) + EPSILON) + decay * weight)).astype(np.float32)


def differentiate_lists(
    weights: dict[str, Matrix], lists: Sequence[RankedList], standard: Sequence[Matrix]
) -> dict[str, Matrix]:
    """Return the derivative of the mean loss by each weight."""
    rows = np.concatenate(standard)
    before = rows @ weights["hidden"] + weights["hidden_bias"]
    hidden = np.maximum(before, 0)
    scores = sum_ranks(np.concatenate([each.features for each in lists])) + hidden @ weights["output"]
    errors = np.empty(len(scores), np.float32)
    total, start = sum(each.weight for each in lists), 0
    for each in lists:
        end = start + len(each.is_answer)
        own = np.exp(scores[start:end] - scores[start:end].max())
        own /= own.sum()
        good = own * each.is_answer
        errors[start:end] = (own - good / max(float(good.sum()), 1e-12)) * (each.weight / total)
        start = end
    back = np.outer(errors, weights["output"]) * (before > 0)
    return {"hidden": rows.T @ back, "hidden_bias": back.sum(axis=0), "output": hidden.T @ errors}
