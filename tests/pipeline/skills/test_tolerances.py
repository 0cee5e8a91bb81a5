"""Tolerances of skills in the gate: the skill's own, overridden by params.yaml, never lost without notice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_params
from pipeline.registry import gate
from pipeline.registry.params import Registry
from pipeline.skills import SKILLS
from tests.conftest import ROOT, read_yaml

POLICY = Registry(max_bpb_z=2.0, max_bpb_increase=0.01)
DOCUMENTS = gate.DocumentLosses(np.array(["a", "b"]), np.array([10, 20]), np.array([10.0, 20.0]))


def measure(**fractions: float) -> Any:
    return gate.Measurements({"bpb": 1.4, **fractions}, DOCUMENTS)


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
def test_every_skill_has_its_own_tolerance_and_an_override(skill: Any) -> None:
    champion = measure(**{skill.metric: 0.9})
    for policy, tolerance in (
        (POLICY, skill.max_drop),
        (POLICY.model_copy(update={"max_skill_drop": {skill.metric: 0.4}}), 0.4),
    ):
        for drop, is_passed in ((tolerance - 0.001, True), (tolerance + 0.001, False)):
            assert gate.judge(policy, measure(**{skill.metric: 0.9 - drop}), champion).is_passed is is_passed


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
