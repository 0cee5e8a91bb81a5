from __future__ import annotations

import numpy as np
import pytest

from pipeline.embed.retrieval_metrics import find_rank, score_ranks


def test_the_same_text_under_another_name_counts_once() -> None:
    groups = np.array([0, 0, 1, 2, 2])
    assert find_rank(np.array([0, 1, 3]), [4], groups) == 1
    assert find_rank(np.array([0, 1]), [1], groups) == 0
    assert find_rank(np.array([0, 1]), [2], groups) is None
    assert find_rank(np.array([], np.int64), [2], groups) is None


def test_scores_are_means_over_queries() -> None:
    scores = score_ranks([0, 2, 9, 10, None])
    assert (scores.r1_pct, scores.r3_pct, scores.r10_pct) == pytest.approx((20, 40, 60))
    assert scores.mrr10 == pytest.approx((1 + 1 / 3 + 1 / 10) / 5)
    assert scores.r1_pct_se == pytest.approx(100 * np.sqrt(0.2 * 0.8 / 5))


def test_no_query_is_no_score() -> None:
    assert score_ranks([]).mrr10 == 0
