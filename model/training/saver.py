"""The history of a run, and its checkpoints: when one is due, what goes into it, and the way back.

In: the records and events of the loop, model and optimizer, the folder. Out: checkpoints (model.training.checkpoints; where each rank holds
its part of the weights, model.training.sharded_checkpoint), and model and optimizer as one of them has them. All ranks call the same methods
at the same steps. Either kind is read by any number of ranks, sharded or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from model.machine.distributed import World
from model.network.folder import get_model_tensors, restore
from model.network.transformer import Transformer
from model.training.checkpoints import Checkpoint, RetentionPolicy, Tensors, load_newest, read_tensors, save_checkpoint
from model.training.optim import Optimizer
from model.training.spikes import DivergedError, TrainingEvent


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """After `step` steps: the mean loss of that step's batch, the schedule's multiplier `lr`, all tokens and seconds so far."""

    step: int
    loss_nats: float
    lr: float
    tokens: int
    seconds: float
    tokens_per_second: float
    grad_norm: float
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Flat: what `evaluate` gave stands beside the rest."""
        values = asdict(self)
        return values | values.pop("evaluation")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepRecord:
        names = cls.__dataclass_fields__.keys() - {"evaluation"}
        evaluation = {name: value for name, value in values.items() if name not in names}
        return cls(**{name: values[name] for name in names}, evaluation=evaluation)


class Saver:
    """The checkpoints of one run: one at a multiple of each of `every` (0 = never), one each `every_seconds`, and with
    `keep_best` one at each new best evaluation."""

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        model: Transformer,
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
        """Model and optimizer as the newest checkpoint (of at most `up_to` steps) has them; its history and events."""
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
                    f"training can't go back to step {up_to}; found no whole checkpoint in {self.folder}; start again."
                )
            return [], []
        restore(self.model, saved.model)
        self.optimizer.adam.state.clear()  # a first checkpoint has none, and would leave what is there
        self.optimizer.load_state_dict({name: tensor.to(self.world.device) for name, tensor in saved.optimizer.items()})
        return [StepRecord.from_dict(each) for each in saved.history], [
            TrainingEvent.from_dict(dict(e)) for e in saved.events
        ]

    def is_due(self, history: Sequence[StepRecord]) -> bool:
        """As the main process sees it, whose clock and evaluations count. Where nobody else saves, the others say no unasked."""
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
        """Of all ranks where they are sharded; else of the main process, which waits for nobody."""
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
    """The step whose first held-out figure is lowest; -1 where nothing was evaluated."""
    figures = [(record.step, [v for v in record.evaluation.values() if isinstance(v, float)]) for record in history]
    measured = [(values[0], step) for step, values in figures if values]
    return min(measured)[1] if measured else -1


def read_checkpoint(path: Path) -> Tensors:
    """Read all tensors of a checkpoint, whole, whichever way they were saved."""
    if (path / "model.safetensors").is_file():
        return read_tensors(path)
    from model.training.sharded_checkpoint import read_whole  # whose libraries take a second to import

    return read_whole(path)
