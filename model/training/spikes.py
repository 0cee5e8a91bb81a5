"""Steps that must not be taken: losses that are no numbers, or far above those before. Which batches are then left out, and from
where the run goes on.

In: the loss of each step before its update, the losses before it. Out: for each step the number of its batch, and on trouble an
Event that belongs to the run's checkpoint. Everything is a function of the run so far, so that a killed run decides the same again.
Memory and time: a window of losses, sorted twice a step (20 µs at 100).

A jump is measured in robust standard deviations: (loss - median) / (1.4826 MAD) (Iglewicz & Hoaglin 1993). Going back some
steps and past the batches around a spike is PaLM's remedy (Chowdhery et al. 2022, section 5.1: 100 steps, 200 to 500 batches).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

LEAST_MAD = 1e-3  # of the median: a loss that hardly moves would make every tremor a spike


class DivergedError(ValueError):
    """A step that must not be taken, and no leave to go on without it; names the step and its batch."""


@dataclass(frozen=True, kw_only=True)
class WatchSettings:
    """`max_robust_z` 0: only losses and gradients that are not finite count. `back_steps` are undone, their batches left out with
    the bad one. `max_skips`: how often; one more ends the run."""

    max_robust_z: float = 0.0
    window_steps: int = 100
    back_steps: int = 0
    max_skips: int = 0

    def __post_init__(self) -> None:
        for name, least in (("max_robust_z", 0), ("window_steps", 8), ("back_steps", 0), ("max_skips", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"watch.{name} must be at least {least}; found {getattr(self, name)}; raise it.")


@dataclass(frozen=True, kw_only=True)
class TrainingEvent:
    """At `step` (counted from 0) something was wrong with `batch`; the run went on from `resumed_step` without `left_out`."""

    step: int
    batch: int
    reason: str
    resumed_step: int
    left_out: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingEvent:
        known: dict[str, Any] = {**values, "left_out": tuple(values["left_out"])}
        return cls(**known)


def compute_batch_number(step: int, events: Sequence[TrainingEvent]) -> int:
    """The number of a step's batch: the step's own, moved on by the batches left out up to there."""
    for number in sorted(number for event in events for number in event.left_out):
        step += number <= step
    return step


def find_problem(loss: float, grad_norm: float, losses: Sequence[float], settings: WatchSettings) -> str:
    """What is wrong with a step, in words; empty where nothing is. `losses` are those of the steps before, newest last."""
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
    """The decision about a bad step: from where to go on, and without which batches."""
    start = max(step - settings.back_steps, 0)
    batches = tuple(compute_batch_number(each, events) for each in range(start, step + 1))
    return TrainingEvent(step=step, batch=batches[-1], reason=reason, resumed_step=start, left_out=batches)
