"""The one training loop: pretraining and tuning both call it.

In: a model with fp32 weights, batches that are functions of the step, settings. Out: the model trained in place, and one
StepRecord per step. Memory: model.plan. Time: ModelConfig.flops_per_token; model.compute says how.

A run that is killed and started again with the same checkpoint folder ends with the same bits on a CPU: a step depends on the
weights, the optimizer's state and the step's number alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from model.batches import Batch, Batches
from model.checkpoint import Checkpoint, load_newest, model_tensors, restore, save_checkpoint
from model.compute import Compute, choose
from model.distributed import World
from model.optim import Optimizer, OptimSettings, grad_of
from model.schedule import Schedule
from model.transformer import Transformer

Evaluate = Callable[[Transformer], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """`micro_rows`: rows computed at once by each process (0 = its whole share); the rest is gradient accumulation.

    `eval_every` and `checkpoint_every` count steps, 0 = only at the end; `checkpoint_every_seconds` works beside it.
    `use_kernels`: model.fused, on a CPU with fast bf16; `use_compile`:
    torch.compile, elsewhere. Both step aside, with a message, where they can't run.
    """

    total_steps: int
    optim: OptimSettings = field(default_factory=OptimSettings)
    warmup_frac: float = 0.02
    decay_frac: float = 0.5
    final_frac: float = 0.0
    max_grad_norm: float = 1.0
    micro_rows: int = 0
    eval_every: int = 0
    checkpoint_every: int = 0
    checkpoint_every_seconds: float = 60.0
    keep_checkpoints: int = 2
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    use_kernels: bool = True
    use_compile: bool = True

    def __post_init__(self) -> None:
        Schedule(
            total_steps=self.total_steps,
            warmup_frac=self.warmup_frac,
            decay_frac=self.decay_frac,
            final_frac=self.final_frac,
        )
        for name in ("max_grad_norm", "micro_rows", "eval_every", "checkpoint_every", "checkpoint_every_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must be at least 0; found {getattr(self, name)}; correct it.")
        if self.keep_checkpoints < 1:
            raise ValueError(f"train.keep_checkpoints must be at least 1; found {self.keep_checkpoints}; raise it.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"train.precision must be auto, bf16 or fp32; found {self.precision!r}; choose one.")


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
    evaluation: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Flat: what `evaluate` gave stands beside the rest."""
        values = asdict(self)
        return values | values.pop("evaluation")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StepRecord:
        names = cls.__dataclass_fields__.keys() - {"evaluation"}
        evaluation = {name: value for name, value in values.items() if name not in names}
        return cls(**{name: values[name] for name in names}, evaluation=evaluation)


class DivergedError(ValueError):
    """The loss or the gradients are no longer finite; names the step and the rows of its batch."""


def train(
    model: Transformer,
    batches: Batches,
    *,
    settings: TrainSettings,
    checkpoints: Path,
    evaluate: Evaluate | None = None,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    on_message: Callable[[str], None] = lambda text: None,
    world: World | None = None,
) -> list[StepRecord]:
    """Continues from the newest whole checkpoint in `checkpoints`, if any of this run is there.

    `evaluate` gets the model as it is computed with (bf16 where that is fast), on the main process only; don't change it.
    Raises: DivergedError; ValueError for settings that don't fit the batches.
    """
    world = world or World()
    model.to(world.device)
    schedule = Schedule(
        total_steps=settings.total_steps,
        warmup_frac=settings.warmup_frac,
        decay_frac=settings.decay_frac,
        final_frac=settings.final_frac,
    )
    say = on_message if world.is_main else lambda text: None
    compute = choose(
        model,
        precision=settings.precision,
        use_kernels=settings.use_kernels,
        use_compile=settings.use_compile,
        say=say,
    )
    optimizer = Optimizer(model, settings.optim, muon_dtype=compute.dtype, world=world)
    fingerprint = _fingerprint(model, batches, settings)
    history: list[StepRecord] = []
    saved = load_newest(checkpoints, fingerprint=fingerprint, on_message=say)
    if saved is not None:
        restore(model, saved.model)
        optimizer.load_state_dict({name: tensor.to(world.device) for name, tensor in saved.optimizer.items()})
        history = [StepRecord.from_dict(values) for values in saved.history]
        say(f"continuing after step {saved.step} of {settings.total_steps}")
    first = saved.step if saved else 0
    tokens, seconds = (history[-1].tokens, history[-1].seconds) if history else (0, 0.0)
    saved_at = started_at = time.perf_counter()
    for step in range(first, settings.total_steps):
        loss, grad_norm, n_tokens = _one_step(step, model, compute, optimizer, batches, schedule(step), settings, world)
        now = time.perf_counter()
        span, started_at = now - started_at, now
        tokens, seconds = tokens + n_tokens, seconds + span
        done = step + 1
        is_last = done == settings.total_steps
        evaluation: Mapping[str, float] = {}
        if evaluate is not None and (is_last or (settings.eval_every and done % settings.eval_every == 0)):
            evaluation = dict(evaluate(compute.model_for_evaluation())) if world.is_main else {}
        record = StepRecord(
            step=done,
            loss_nats=loss,
            lr=schedule(step),
            tokens=tokens,
            seconds=seconds,
            tokens_per_second=n_tokens / span,
            grad_norm=grad_norm,
            evaluation=evaluation,
        )
        history.append(record)
        if world.is_main:
            on_step(record)
            is_due = bool(settings.checkpoint_every) and done % settings.checkpoint_every == 0
            is_due |= 0 < settings.checkpoint_every_seconds <= time.perf_counter() - saved_at
            if is_last or is_due:
                records = [record.to_dict() for record in history]
                state = Checkpoint(done, model_tensors(model), optimizer.state_dict(), fingerprint, records)
                save_checkpoint(checkpoints, state, keep_last=settings.keep_checkpoints)
                saved_at = time.perf_counter()
        seconds += time.perf_counter() - started_at  # evaluation and checkpoints count too
        started_at = time.perf_counter()
    world.barrier()
    return history


def _one_step(
    step: int,
    model: Transformer,
    compute: Compute,
    optimizer: Optimizer,
    batches: Batches,
    multiplier: float,
    settings: TrainSettings,
    world: World,
) -> tuple[float, float, int]:
    """Mean nats per target, norm of the gradients before clipping, tokens: all of the global batch."""
    batch = batches.at(step, rank=world.rank, n_ranks=world.n_ranks)
    (n_targets,) = world.sum(float((batch.targets >= 0).sum()))
    if not n_targets:
        raise DivergedError(f"step {step} has no target; found none in rows {batch.rows}; leave these rows out.")
    compute.update()
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = None
    nats = sum(compute.add_gradients(part, n_targets) for part in _micro_batches(batch, settings, world))
    world.sum_tensors(grad_of(parameter) for parameter in parameters)
    (nats,) = world.sum(nats)
    loss = nats / n_targets
    limit = settings.max_grad_norm or float("inf")
    grad_norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True))
    if not (abs(loss) < float("inf") and grad_norm < float("inf")):
        raise DivergedError(
            f"training diverged at step {step}; found loss {loss} and gradient norm {grad_norm} on rows {batch.rows}; "
            "lower the learning rates or look at these rows."
        )
    optimizer.step(multiplier)
    return loss, grad_norm, batch.ids.numel() * world.n_ranks


def _micro_batches(batch: Batch, settings: TrainSettings, world: World) -> Iterator[Batch]:
    n_rows = len(batch.ids)
    size = min(settings.micro_rows or n_rows, n_rows)
    if n_rows % size:
        raise ValueError(f"train.micro_rows must divide a process's rows; found {size} and {n_rows}; change one.")
    for start in range(0, n_rows, size):
        part = slice(start, start + size)
        documents = None if batch.documents is None else batch.documents[part].to(world.device)
        yield Batch(batch.ids[part].to(world.device), batch.targets[part].to(world.device), documents)


def _fingerprint(model: Transformer, batches: Batches, settings: TrainSettings) -> str:
    """Of what decides the result: sizes, first weights, data's shape and first batch, settings. The number of ranks does not."""
    matters = asdict(settings)
    for name in ("eval_every", "checkpoint_every", "checkpoint_every_seconds", "keep_checkpoints", "micro_rows"):
        del matters[name]
    digest = hashlib.sha256(repr((sorted(matters.items()), model.config, batches.n_rows, batches.batch_rows)).encode())
    for tensor in (*model_tensors(model).values(), *batches.at(0)[:2]):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
