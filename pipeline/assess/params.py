"""Settings of `assess` in a task recipe's params.yaml."""

from __future__ import annotations

from pipeline.frame.settings import Count, ParamsSection


class Assess(ParamsSection):
    """How the held-out items are scored."""

    max_new_tokens: Count  # of a reply that the model spells
