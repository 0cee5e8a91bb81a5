"""The learning-rate schedule: warmup, stable, decay (WSD; Hu et al. 2024, MiniCPM). Standard library only.

In: a step, counted from 0. Out: a multiplier between 0 and 1 for every learning rate. A pure function of the step, so a
resumed run needs no state for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear from 1/warmup to 1 over `warmup_frac` of the steps, 1, then linear to `final_lr_frac` over `decay_frac`."""

    total_steps: int
    warmup_frac: float = 0.02
    decay_frac: float = 0.5
    final_lr_frac: float = 0.0

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ValueError(f"schedule.total_steps must be at least 1, got {self.total_steps}")
        for name in ("warmup_frac", "decay_frac", "final_lr_frac"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"schedule.{name} must be between 0 and 1, got {value}")
        if self.warmup_frac + self.decay_frac > 1 + 1e-9:
            raise ValueError(
                "schedule.warmup_frac and schedule.decay_frac overlap: "
                f"{self.warmup_frac} + {self.decay_frac} > 1; lower one of them"
            )

    def __call__(self, step: int) -> float:
        """Return the multiplier of a step. It is above 0 at step 0, and slightly above `final_lr_frac` at the last step."""
        warmup_steps = round(self.warmup_frac * self.total_steps)
        decay_steps = round(self.decay_frac * self.total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        left = self.total_steps - step
        if decay_steps and left <= decay_steps:
            return self.final_lr_frac + (1 - self.final_lr_frac) * max(left, 0) / (decay_steps + 1)
        return 1.0
