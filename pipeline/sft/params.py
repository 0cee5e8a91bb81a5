"""Settings of `sft` in params.yaml."""

from __future__ import annotations

from pipeline.frame.settings import ParamsSection
from pipeline.training.params import Optimization


class Sft(ParamsSection):
    """Settings of supervised fine-tuning."""

    training: Optimization
