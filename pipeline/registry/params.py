"""The section `registry` of params.yaml: the policy of the gate."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.frame.settings import Frac, ParamsSection
from pipeline.skills import SKILLS


def _check_metric(name: str) -> str:
    metrics = [skill.metric for skill in SKILLS]
    if name not in metrics:
        raise ValueError(f"no skill has this metric; the metrics are {', '.join(metrics)}")
    return name


class Registry(ParamsSection):
    """The gate's policy: how much worse than the champion a candidate may be."""

    max_bpb_z: Annotated[float, Field(ge=0.0)]  # standard errors of the paired difference in bits per byte
    # Bits per byte, where the two were not measured on the same documents.
    max_bpb_increase: Annotated[float, Field(ge=0.0)]
    # Metric → how much of the champion's fraction may be lost, in the place of the skill's own tolerance (pipeline/skills).
    max_skill_drop: dict[Annotated[str, AfterValidator(_check_metric)], Frac] = {}

    def get_tolerances(self) -> dict[str, float]:
        """Return the tolerance of every skill by metric: `max_skill_drop` if it is set there, else the skill's own."""
        return {skill.metric: self.max_skill_drop.get(skill.metric, skill.max_drop) for skill in SKILLS}
