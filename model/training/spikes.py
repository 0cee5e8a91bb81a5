"""Detect steps that must not be applied: losses that are not finite or far above the recent ones. Decide which batches to skip and
where to resume.

In: the loss of each step before its update, the losses of earlier steps. Out: the batch number of each step, and for a bad step a
TrainingEvent that is stored in the run's checkpoints. Everything is a function of the run so far, so a killed run makes the same
decisions again. Memory and time: a window of losses, sorted twice per step (20 µs for 100).

A spike is measured in robust standard deviations: (loss - median) / (1.4826 MAD) (Iglewicz & Hoaglin 1993). Rolling back some
steps and skipping the batches around a spike is PaLM's remedy (Chowdhery et al. 2022, section 5.1: 100 steps, 200 to 500 batches).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

LEAST_MAD = 1e-3  # relative to the median: with an almost constant loss, any fluctuation would be a spike


class DivergedError(ValueError):
    """A step must not be applied and no more batches may be skipped; the message names the step and its batch."""


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """Settings of spike detection. `max_robust_z` 0: only non-finite losses and gradients count. `back_steps` are undone, and their
    batches skipped with the bad one. `max_skips`: how many times; one more ends the run."""

    max_robust_z: float = 0.0
    window_steps: int = 100
    back_steps: int = 0
    max_skips: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_robust_z", 0), ("window_steps", 8), ("back_steps", 0), ("max_skips", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"watch.{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class TrainingEvent:
    """At `step` (counted from 0) `batch` was bad; the run resumed from `resumed_step` without the batches `left_out`."""

    step: int
    batch: int
    reason: str
    resumed_step: int
    left_out: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingEvent:
        """Return the event that `to_dict` made this dict of."""
        fields: dict[str, Any] = {**values, "left_out": tuple(values["left_out"])}
        return cls(**fields)


def compute_batch_number(step: int, events: Sequence[TrainingEvent]) -> int:
    """Return the batch number of a step: the step's own number plus the number of batches skipped before it."""
    for number in sorted(number for event in events for number in event.left_out):
        step += number <= step
    return step


def find_problem(loss: float, grad_norm: float, losses: Sequence[float], settings: WatchSettings) -> str:
    """Return a description of what is wrong with a step, or an empty string. `losses` are those of earlier steps, newest last."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        return f"loss {loss} and gradient norm {grad_norm}"
    recent = losses[-settings.window_steps :]
    if not settings.max_robust_z or len(recent) < settings.window_steps:
        return ""
    middle = median(recent)
    spread = 1.4826 * median(abs(each - middle) for each in recent)
    robust_z = (loss - middle) / max(spread, LEAST_MAD * abs(middle), 1e-12)
    if robust_z <= settings.max_robust_z:
        return ""
    return f"loss {loss:.4g}, {robust_z:.1f} robust standard deviations above the median {middle:.4g}"


def plan_rollback(step: int, reason: str, events: Sequence[TrainingEvent], settings: WatchSettings) -> TrainingEvent:
    """Return the event for a bad step: where to resume, and which batches to skip."""
    start = max(step - settings.back_steps, 0)
    batches = tuple(compute_batch_number(each, events) for each in range(start, step + 1))
    return TrainingEvent(step=step, batch=batches[-1], reason=reason, resumed_step=start, left_out=batches)
