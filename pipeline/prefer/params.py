"""Settings of `prefer` in a task recipe's params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, ParamsSection
from pipeline.training.params import Adapter, Optimization

Method = Literal["dpo", "ipo", "simpo", "orpo", "grpo"]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Temperature = Annotated[float, Field(gt=0.0, le=10.0)]


class PairSettings(ParamsSection):
    """Where pairs of a chosen and a rejected answer are from.

    rules: made by code from the training conversations (pipeline/prefer/rule_pairs.py); samples: the training conversation's answer
    against a wrong one that the model itself samples; files: the folder --pairs (pipeline/prefer/pair_files.py).
    """

    source: Literal["rules", "samples", "files"]
    n_pairs: Count  # at most
    n_samples: Count = 4  # per prompt, for the source samples
    temperature: Temperature = 1.0
    max_new_tokens: Count = 96


class Groups(ParamsSection):
    """Groups of sampled answers for GRPO. `training.batch_rows` is the number of prompts per round, each with one group."""

    n_samples: Annotated[int, Field(ge=2)]  # per prompt
    n_epochs: Count  # steps on the samples of one round; with more than 1 the ratio to the sampling policy is clipped
    temperature: Temperature
    max_new_tokens: Count
    clip_frac: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    kl_weight: NotNegative = 0.0  # of the KL divergence from the base, per token; 0: the base is not computed


class Prefer(ParamsSection):
    """Settings of preference optimization."""

    method: Method
    beta: Positive | None = (
        None  # dpo, ipo: strength of the tie to the base; simpo: scale of the reward; orpo: weight of the odds
    )
    margin_nats: NotNegative = 0.0  # simpo: by how much the chosen answer's reward has to be higher
    sft_weight: NotNegative = (
        0.0  # of the chosen answer's mean nats: keeps its probability from falling (RPO, Pang et al. 2024)
    )
    kinds: list[str] = Field(default_factory=list[str])  # of conversations to learn from; empty: all
    pairs: PairSettings | None = None
    groups: Groups | None = None
    n_heldout: Count = 40  # items per skill for the curve and for the check at the end
    tolerance_frac: Frac | None = None  # how much a held-out skill may fall; null: each skill's own (pipeline/skills)
    training: Optimization
    adapter: Adapter | None = None  # trained instead of all weights; rank 1 is enough for grpo (LoRA Without Regret)

    @model_validator(mode="after")
    def _check(self) -> Prefer:
        wanted, other = ("groups", "pairs") if self.method == "grpo" else ("pairs", "groups")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"method {self.method} needs {wanted} and no {other}")
        if (self.beta is None) != (self.method == "grpo"):
            raise ValueError("beta is needed by dpo, ipo, simpo and orpo, and only by them (grpo has groups.kl_weight)")
        if self.margin_nats and self.method != "simpo":
            raise ValueError("margin_nats belongs to the method simpo")
        if self.sft_weight and self.method in ("orpo", "grpo"):
            raise ValueError(f"sft_weight does not belong to the method {self.method} (orpo has that term already)")
        if self.training.spikes is not None:
            raise ValueError("training.spikes must be null: a skipped round of samples can't be drawn again")
        return self
