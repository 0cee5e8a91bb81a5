"""How often the gate errs, by simulation: equal versions, better ones, planted regressions. The noise is that of default runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.training.simulated_versions import POLICY, Recipe, damage, judge_pairs, leak, lose_in_one_skill

N_PAIRS = 60


def count_passed(change: Callable[[Recipe], Recipe], n_pairs: int = N_PAIRS, *, prefers_fresh: bool = False) -> int:
    policy = POLICY.model_copy(update={"when_equal": "promote"}) if prefers_fresh else POLICY
    return sum(verdict.is_passed for verdict in judge_pairs(n_pairs, change, policy=policy))


def test_another_seed_of_the_same_recipe_is_promoted_by_chance_at_most_as_often_as_the_policy_allows() -> None:
    assert count_passed(lambda recipe: recipe, 100) <= 0.05 * 100


def test_a_really_better_version_is_promoted() -> None:
    """By 0.06 bits per byte, or by 8 points of typed turns: docs/gate.md has what is found how often."""

    def improve_text(recipe: Recipe) -> Recipe:
        return replace(recipe, bpb=recipe.bpb - 0.06)

    def improve_turns(recipe: Recipe) -> Recipe:
        return replace(recipe, turns=recipe.turns + 0.08)

    for change in (improve_text, improve_turns):
        assert count_passed(change) >= 0.9 * N_PAIRS


def test_planted_regressions_are_refused() -> None:
    assert count_passed(lose_in_one_skill(3)) <= 0.05 * N_PAIRS
    for prefers_fresh in (False, True):
        for change in (damage, leak, lose_in_one_skill(15)):
            assert count_passed(change, 20, prefers_fresh=prefers_fresh) == 0
