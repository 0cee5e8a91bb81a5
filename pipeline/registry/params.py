"""Settings of `registry` in params.yaml: the policy of the gate."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Frac, Section


class Registry(Section):
    """The gate's policy: what a candidate must not lose against the champion."""

    max_bpb_z: Annotated[float, Field(ge=0.0)]  # standard errors of the paired difference in bits per byte
    max_bpb_increase: Annotated[
        float, Field(ge=0.0)
    ]  # bits per byte, where the two were not measured on the same documents
    max_skill_drop: dict[str, Frac]  # skill → how much of the champion's fraction may be lost
