"""Decide when a checkpoint is due, save it with the history of the run, and restore a run from it.

In: the records and events of the loop, model and optimizer, the folder. Out: checkpoints (model.training.checkpoints; for sharded
weights model.training.sharded_checkpoint), and the restored state of model and optimizer. All ranks call the same methods at the
same steps. Checkpoints of both kinds can be read by any number of ranks, sharded or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from model.machine.distributed import World
from model.network.folder import get_model_tensors, restore
from model.training.checkpoints import Checkpoint, RetentionPolicy, Tensors, load_newest, read_tensors, save_checkpoint
from model.training.optim import Optimizer
from model.training.spikes import DivergedError, TrainingEvent


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """The metrics after `step` steps: mean loss of that step's batch, the schedule's multiplier `lr`, total tokens and seconds, and
    the means of what an objective has measured (model.data.batches.Objective)."""

    step: int
    loss_nats: float
    lr: float
    tokens: int
    seconds: float
    tokens_per_second: float
    grad_norm: float
    objective: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict, with the results of `evaluate` beside the other fields."""
        values = asdict(self)
        if not self.objective:
            del values["objective"]
        return values | values.pop("evaluation")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepRecord:
        """Return the record that `to_dict` made this dict of."""
        names = cls.__dataclass_fields__.keys() - {"evaluation"}
        evaluation = {name: value for name, value in values.items() if name not in names}
        return cls(**{name: values[name] for name in names if name in values}, evaluation=evaluation)


class Saver:
    """Saves the checkpoints of one run: at multiples of each of `every` steps (0 = never), every `every_seconds`, and with
    `keep_best` at each new best evaluation."""

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        model: nn.Module,
        optimizer: Optimizer,
        world: World,
        log: Callable[[str], None],
        *,
        every: Sequence[int],
        every_seconds: float,
        keep_best: bool,
        policy: RetentionPolicy,
    ) -> None:
        self.folder, self.fingerprint, self.world, self.log = folder, fingerprint, world, log
        self.model, self.optimizer = model, optimizer
        self.every, self.every_seconds, self.keep_best, self.policy = every, every_seconds, keep_best, policy
        self.saved_at = time.perf_counter()

    def load(self, up_to: int | None = None) -> tuple[list[StepRecord], list[TrainingEvent]]:
        """Restore model and optimizer from the newest checkpoint (of at most `up_to` steps). Return its history and events, both
        empty if there is no checkpoint. Raises: DivergedError if there is none to roll back to."""
        read = read_checkpoint
        if self.world.is_sharded:
            from model.training.sharded_checkpoint import make_reader  # whose libraries take a second to import

            read = make_reader(get_model_tensors(self.model))
        saved = load_newest(
            self.folder, fingerprint=self.fingerprint, on_message=self.log, up_to=up_to, world=self.world, read=read
        )
        if saved is None:
            if up_to is not None:
                raise DivergedError(
                    f"training can't roll back to step {up_to}: no intact checkpoint in {self.folder}; start the run again"
                )
            return [], []
        restore(self.model, saved.model)
        self.optimizer.adam.state.clear()  # a checkpoint of step 0 has no state, and would keep the current one
        self.optimizer.load_state_dict({name: tensor.to(self.world.device) for name, tensor in saved.optimizer.items()})
        return [StepRecord.from_dict(each) for each in saved.history], [
            TrainingEvent.from_dict(dict(e)) for e in saved.events
        ]

    def is_due(self, history: Sequence[StepRecord]) -> bool:
        """Return whether a checkpoint is due. The main process decides, by its clock and evaluations; if weights are not sharded,
        only the main process saves, so the others return False without communicating."""
        is_due = self.world.is_main and self._is_due(history)
        return bool(self.world.broadcast([is_due])[0]) if self.world.is_sharded else is_due

    def _is_due(self, history: Sequence[StepRecord]) -> bool:
        step = history[-1].step
        return (
            any(every and step % every == 0 for every in self.every)
            or 0 < self.every_seconds <= time.perf_counter() - self.saved_at
            or (self.keep_best and find_best_step(history) == step)
        )

    def save(self, history: Sequence[StepRecord], events: Sequence[TrainingEvent]) -> None:
        """Write a checkpoint: all ranks together if they are sharded, else the main process alone, without synchronization."""
        records, decisions = [record.to_dict() for record in history], [event.to_dict() for event in events]
        tensors, state = get_model_tensors(self.model), self.optimizer.state_dict()
        policy = replace(self.policy, best_step=find_best_step(history) if self.keep_best else -1)
        checkpoint = Checkpoint(len(history), tensors, state, self.fingerprint, records, decisions)
        if self.world.is_sharded:
            from model.training.sharded_checkpoint import save_sharded

            save_sharded(self.folder, checkpoint, policy, self.world)
        elif self.world.is_main:
            save_checkpoint(self.folder, checkpoint, policy)
        self.saved_at = time.perf_counter()


def find_best_step(history: Sequence[StepRecord]) -> int:
    """Return the step whose first held-out metric is lowest, -1 if nothing was evaluated."""
    metrics = [(record.step, [v for v in record.evaluation.values() if isinstance(v, float)]) for record in history]
    measured = [(values[0], step) for step, values in metrics if values]
    return min(measured)[1] if measured else -1


def read_checkpoint(path: Path) -> Tensors:
    """Read all tensors of a checkpoint, sharded or not, as whole tensors."""
    if (path / "model.safetensors").is_file():
        return read_tensors(path)
    from model.training.sharded_checkpoint import read_whole  # whose libraries take a second to import

    return read_whole(path)
