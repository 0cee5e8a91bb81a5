"""The section `registry` of params.yaml: the policy of the gate."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.frame.settings import Frac, ParamsSection
from pipeline.skills import SKILLS

ErrorRate = Annotated[float, Field(gt=0.0, le=0.5)]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


def _check_metric(name: str) -> str:
    metrics = [skill.metric for skill in SKILLS]
    if name not in metrics:
        raise ValueError(f"no skill has this metric; the metrics are {', '.join(metrics)}")
    return name


class SeedNoise(ParamsSection):
    """How much runs differ that differ in their seed only (`python -m pipeline.registry noise RUN…` measures it)."""

    n_seeds: Annotated[int, Field(ge=2)]
    sd: dict[MetricName, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]  # standard deviation, by metric


class Registry(ParamsSection):
    """The gate's policy: when a candidate counts as better, equal or worse than the champion (docs/gate.md)."""

    goals: list[MetricName]  # what a better model is better at: half of the error rates is spent on them
    # How often an equal candidate may be promoted, and a better one refused, by chance: over all metrics together.
    false_promotion: ErrorRate
    false_refusal: ErrorRate
    when_equal: Literal["keep", "promote"]  # promote: who prefers fresher data
    noise: SeedNoise | None  # null: not measured for these settings; then only chance among the items counts
    # Metric → the most that a candidate may have, whatever the champion has.
    at_most: dict[MetricName, Annotated[float, Field(allow_inf_nan=False)]] = {}
    # Metrics that are shown and decide nothing, such as diagnostics; `*` stands for any part of a name.
    not_judged: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_*-]+$")]] = []
    # Metric → how much of the champion's fraction may be lost, in the place of the skill's own tolerance (pipeline/skills).
    max_skill_drop: dict[Annotated[str, AfterValidator(_check_metric)], Frac] = {}

    def is_judged(self, metric: str) -> bool:
        """Return whether a metric may decide anything."""
        return not any(fnmatchcase(metric, pattern) for pattern in self.not_judged)

    def get_tolerances(self) -> dict[str, float]:
        """Return the tolerance of every skill by metric: `max_skill_drop` if it is set there, else the skill's own."""
        return {skill.metric: self.max_skill_drop.get(skill.metric, skill.max_drop) for skill in SKILLS}
