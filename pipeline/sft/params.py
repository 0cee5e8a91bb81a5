"""Settings of `sft` in params.yaml."""

from __future__ import annotations

from pipeline.frame.settings import Section
from pipeline.training.params import Optimization


class Sft(Section):
    """Settings of supervised fine-tuning."""

    training: Optimization
