"""Tolerances of skills in the gate: the skill's own, overridden by params.yaml, never lost without notice."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_params
from pipeline.registry import gate
from pipeline.registry.params import Registry
from pipeline.skills import SKILLS
from tests.conftest import ROOT, read_yaml

POLICY = Registry(goals=[], false_promotion=0.05, false_refusal=0.1, when_equal="promote", noise=None)
ERROR = 0.005


def measure(**fractions: float) -> Any:
    return gate.Measurements({"bpb": 1.4, "bpb_se": 0.01, **fractions, **{f"{name}_se": ERROR for name in fractions}})


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_every_skill_has_its_own_tolerance_and_an_override(skill: Any) -> None:
    """However many skills there are, a loss above the tolerance is judged by itself; one that params.yaml grants is accepted."""
    others = {each.metric: 0.5 for each in SKILLS}
    champion = measure(**(others | {skill.metric: 0.9}))
    assert POLICY.get_tolerances()[skill.metric] == skill.max_drop
    for tolerance in (0.013, 0.4):
        policy = POLICY.model_copy(update={"max_skill_drop": {skill.metric: tolerance}})
        for drop, is_passed in ((tolerance - 0.001, True), (tolerance + 0.001, False)):
            candidate = measure(**(others | {skill.metric: 0.9 - drop}))
            assert gate.judge(policy, candidate, champion).is_passed is is_passed


def test_a_skill_that_only_the_champion_was_measured_on_is_refused() -> None:
    champion = measure(quote_exact_frac=0.9, tool_chosen_frac=0.9)
    with pytest.raises(UserError, match="not measured on quote_exact_frac, unlike"):
        gate.judge(POLICY, measure(tool_chosen_frac=0.9), champion)
    assert gate.judge(POLICY, measure(quote_exact_frac=0.9, tool_chosen_frac=0.9), measure()).is_passed


def test_an_unknown_skill_is_refused_with_its_dotted_name() -> None:
    values = read_yaml(ROOT / "params.yaml")
    values["registry"]["max_skill_drop"] = {"quote_exact": 0.05}
    with pytest.raises(ParamError, match=r"registry\.max_skill_drop\.quote_exact\n.*'quote_exact'\n.*quote_exact_frac"):
        check_params(values)
