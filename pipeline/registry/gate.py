"""The gate: decide whether a candidate may replace the champion, by what `evaluate` measured for both. Pure functions.

In: flat metrics and scores by item of both models, and the `registry` section of params.yaml. Out: a verdict with one row per
metric: candidate, champion, difference, interval, rule, and whether the candidate is better, equal or worse.

A metric is better or worse if its paired difference (differences.py) is significant. Many metrics are compared, so p-values are
adjusted by Holm's method within two families, each with half of the error rate: the policy's goals, and all others. A candidate
passes if at least one metric is better and none is worse. A copy of the champion, or the same recipe with another seed, is
therefore promoted with a probability of at most `false_promotion`; one that is worse nowhere is called worse with at most
`false_refusal`. A skill is also worse if it lost more than its tolerance, and that at the level of `LOSS_LEVEL` by itself; a
tolerance that params.yaml sets (`max_skill_drop`) also grants losses up to it.
Versions without scores by item, or with few items in common, are compared by their values and standard errors, which needs larger
differences; the table names it.

Does not cover: losses that the items are too few to show (docs/gate.md has what is detectable).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from pipeline.frame.errors import UserError
from pipeline.registry.paired.differences import (
    Difference,
    ItemScores,
    Noise,
    adjust_p_values,
    compare_items,
    compare_values,
)
from pipeline.registry.paired.item_table import is_lower_better
from pipeline.registry.params import Registry

LOSS_LEVEL = 0.05  # p-value of a single skill's loss that is above its tolerance
ROUNDING = 1e-9

Outcome = Literal["first", "better", "equal", "worse"]
CheckVerdict = Literal["better", "equal", "worse", "not compared", "not judged"]


@dataclass(frozen=True)
class Measurements:
    """What `evaluate` measured for one model: its flat metrics, and its scores by item of each metric that has items."""

    metrics: Mapping[str, float]
    items: Mapping[str, ItemScores] = field(default_factory=dict[str, ItemScores])


@dataclass(frozen=True)
class Check:
    """One row of the verdict, in the metric's own unit and direction. `rule` names what was compared and decided it."""

    name: str
    candidate: float | None
    champion: float | None
    change: float | None
    interval: tuple[float, float] | None
    rule: str
    verdict: CheckVerdict


@dataclass(frozen=True)
class Verdict:
    """The decision. `reason` is one line: what is better, or every check that the candidate failed."""

    outcome: Outcome
    is_passed: bool
    reason: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of both models; `difference` is None if the two can't be compared, and `how` tells why, or on what they were."""

    name: str
    candidate: float | None
    champion: float | None
    sign: float
    difference: Difference | None
    how: str

    @property
    def is_broken(self) -> bool:
        """Whether the candidate was measured, and its value is not a finite number."""
        return self.candidate is not None and not math.isfinite(self.candidate)


def judge(policy: Registry, candidate: Measurements, champion: Measurements | None) -> Verdict:
    """Compare the two models in every metric that has items or belongs to a skill.

    Raises `UserError` if the candidate was not measured on what the policy names, or on a skill that the champion was measured on.
    """
    _check_measured(policy, candidate, champion)
    return decide(policy, candidate, champion)


def decide(policy: Registry, candidate: Measurements, champion: Measurements | None) -> Verdict:
    """Compare the two models; what one of them was not measured on decides nothing."""
    measured = [
        (name, candidate.metrics[name], bound) for name, bound in policy.at_most.items() if name in candidate.metrics
    ]
    bounded = [_check_bound(*each) for each in measured]
    names = list_names(policy, candidate, champion)
    compared = [_compare(policy, name, candidate, champion) for name in names]
    checks = (*_decide_metrics(policy, compared), *bounded)
    worse = [check for check in checks if check.verdict == "worse"]
    better = [check for check in checks if check.verdict == "better"]
    if worse:
        return Verdict("worse", False, "worse: " + _join(worse), checks)
    if champion is None:
        return Verdict("first", True, "no champion yet", checks)
    if better:
        return Verdict("better", True, f"better: {_join(better)}; nothing is worse", checks)
    is_passed = policy.when_equal == "promote"
    reason = f"equal: no metric differs by more than chance and the noise of seeds (registry.when_equal: {policy.when_equal})"
    return Verdict("equal", is_passed, reason, checks)


def list_names(policy: Registry, candidate: Measurements, champion: Measurements | None) -> list[str]:
    """Return the metrics to compare: the goals, bits per byte, the skills, then all others that have items, sorted."""
    theirs: Iterable[str] = champion.items if champion else ()
    with_items = {*candidate.items, *theirs}
    fixed = [*policy.goals, "bpb", *policy.get_tolerances()]
    measured = [name for name in dict.fromkeys(fixed) if name in candidate.metrics or name in with_items]
    return [*measured, *sorted(with_items - set(measured))]


def _check_measured(policy: Registry, candidate: Measurements, champion: Measurements | None) -> None:
    ours = candidate.metrics
    measured = ", ".join(sorted(ours)) or "nothing at all"
    if "bpb" not in ours:
        raise UserError("gate: the candidate has no bpb", f"evaluate measured {measured}", "run `dvc repro evaluate`")
    for setting in ("goals", "at_most", "max_skill_drop"):
        for name in getattr(policy, setting):
            if name not in ours:
                what = f"registry.{setting}.{name}: the candidate was not measured on it"
                do = "correct the name in params.yaml, or remove it"
                if name.startswith("redteam_"):
                    do = "run python -m service red-team, and python -m pipeline.registry attach its report (docs/guard.md)"
                raise UserError(what, f"evaluate measured {measured}", do)
    theirs = champion.metrics if champion else {}
    missing = [name for name in policy.get_tolerances() if name in theirs and name not in ours]
    if missing:
        what = f"gate: the candidate was not measured on {', '.join(missing)}, unlike the champion"
        raise UserError(what, f"evaluate measured {measured}", "raise conversations.n_heldout, or promote with --force")


def _check_bound(name: str, value: float, bound: float) -> Check:
    verdict: CheckVerdict = "equal" if value <= bound else "worse"  # False for a NaN
    return Check(name, value, None, None, None, f"at most {bound:g} (registry.at_most)", verdict)


def _compare(policy: Registry, name: str, candidate: Measurements, champion: Measurements | None) -> ComparedMetric:
    ours, our_items = candidate.metrics.get(name), candidate.items.get(name)
    theirs, their_items = (champion.metrics.get(name), champion.items.get(name)) if champion else (None, None)
    ours = our_items.value if ours is None and our_items else ours
    theirs = their_items.value if theirs is None and their_items else theirs
    items = our_items or their_items
    is_lower = items.is_lower_better if items else is_lower_better(name)
    row = ComparedMetric(name, ours, theirs, -1.0 if is_lower else 1.0, None, "")
    if champion is None or theirs is None:
        return replace(row, how="no champion" if champion is None else "the champion was not measured on it")
    if ours is None:
        return replace(row, how="the candidate was not measured on it")
    noise = _get_noise(policy, name)
    unpaired = _compare_values(row, candidate, champion, noise)
    if our_items is None or their_items is None:
        return unpaired
    paired = compare_items(our_items, their_items, noise)
    if paired is None or (unpaired.difference is not None and unpaired.difference.se < paired.se):
        return unpaired  # few items in common: all of them tell more
    return replace(row, difference=paired, how=f"paired over {paired.n_items:,} items{_describe_noise(noise)}")


def _compare_values(
    row: ComparedMetric, candidate: Measurements, champion: Measurements, noise: Noise | None
) -> ComparedMetric:
    """Compare by values and standard errors: for versions without items, or with few in common."""
    lacking = [name for name, side in (("candidate", candidate), ("champion", champion)) if row.name not in side.items]
    why = f"the {' and the '.join(lacking)} has no scores by item" if lacking else "too few items in common"
    ours, theirs = candidate.metrics.get(f"{row.name}_se"), champion.metrics.get(f"{row.name}_se")
    if ours is None or theirs is None or row.candidate is None or row.champion is None:
        return replace(row, how=f"{why}, and no standard errors")
    difference = compare_values((row.candidate, ours), (row.champion, theirs), noise, is_lower_better=row.sign < 0)
    return replace(row, difference=difference, how=f"unpaired: {why}{_describe_noise(noise)}")


def _get_noise(policy: Registry, name: str) -> Noise | None:
    if policy.noise is None or name not in policy.noise.sd:
        return None
    return Noise(policy.noise.sd[name], policy.noise.n_seeds)


def _describe_noise(noise: Noise | None) -> str:
    return ", seed noise unknown" if noise is None else f", seed noise {noise.sd:.4f}"


def _decide_metrics(policy: Registry, compared: Sequence[ComparedMetric]) -> list[Check]:
    """Return one check per metric: adjust the p-values of gains and of losses, and apply the tolerances."""
    judged = [row for row in compared if policy.is_judged(row.name)]
    families = [[row for row in judged if (row.name in policy.goals) is is_goal] for is_goal in (True, False)]
    families = [family for family in families if any(row.difference for row in family)]
    better, worse = set[str](), set[str]()
    for family in families:
        better |= _find_significant(family, policy.false_promotion / len(families), is_gain=True)
        worse |= _find_significant(family, policy.false_refusal / len(families), is_gain=False)
    tolerances = policy.get_tolerances()
    return [
        _make_check(
            row,
            is_better=row.name in better,
            is_worse=row.name in worse,
            tolerance=tolerances.get(row.name),
            is_granted=row.name in policy.max_skill_drop,
            is_judged=policy.is_judged(row.name),
        )
        for row in compared
    ]


def _find_significant(family: Sequence[ComparedMetric], level: float, *, is_gain: bool) -> set[str]:
    tests = [(row.name, row.difference) for row in family if row.difference is not None]
    p_values = np.array([difference.p_better if is_gain else difference.p_worse for _, difference in tests])
    return {name for (name, _), p in zip(tests, adjust_p_values(p_values), strict=True) if p <= level}


def _make_check(
    row: ComparedMetric,
    *,
    is_better: bool,
    is_worse: bool,
    tolerance: float | None,
    is_granted: bool,
    is_judged: bool,
) -> Check:
    """Return the row of the decision table. `is_granted`: params.yaml itself allows losses up to the tolerance."""
    check = Check(row.name, row.candidate, row.champion, None, None, row.how, "not compared")
    if row.is_broken and is_judged:
        return replace(check, rule="not a finite number", verdict="worse")
    difference = row.difference
    if difference is None:
        return check
    low, high = sorted(row.sign * bound + 0.0 for bound in difference.interval)  # + 0.0: no minus zero
    check = replace(check, change=row.sign * difference.gain + 0.0, interval=(low, high))
    if not is_judged:
        return replace(check, verdict="not judged")
    is_above = tolerance is not None and -difference.gain > tolerance + ROUNDING
    if is_above and difference.p_worse <= LOSS_LEVEL:
        return replace(check, verdict="worse", rule=f"{row.how}; lost more than its tolerance of {tolerance:g}")
    if is_granted and difference.gain < 0:
        return replace(check, verdict="equal", rule=f"{row.how}; may lose {tolerance:g} (registry.max_skill_drop)")
    if is_better or is_worse:
        return replace(check, verdict="better" if is_better else "worse")
    if low > 0 or high < 0:
        return replace(check, verdict="equal", rule=f"{row.how}; not significant among all metrics")
    return replace(check, verdict="equal")


def _join(checks: Iterable[Check]) -> str:
    return "; ".join(describe_check(check) for check in checks)


def describe_check(check: Check) -> str:
    """Return one row as text: values, difference, interval, rule."""
    text = check.name if check.candidate is None else f"{check.name} {check.candidate:.4f}"
    if check.champion is not None:
        text += f" against {check.champion:.4f}"
    if check.change is not None and check.interval is not None:
        text += f" ({check.change:+.4f}, 95 % {check.interval[0]:+.4f} to {check.interval[1]:+.4f})"
    return f"{text}, {check.rule}"
