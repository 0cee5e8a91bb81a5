"""The training loop, shared by pretraining and fine-tuning.

In: a model with fp32 weights, batches that are a function of the step, settings. Out: the model trained in place, and one
StepRecord per step. Memory: model.planning.memory. Time: ModelConfig.count_flops_per_token over the speed of
model.training.compute.

A run that is killed and restarted with the same checkpoint folder ends with the same bits on a CPU: a step depends only on the
weights, the optimizer's state, the step number and the batches skipped so far (model.training.spikes).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from model.data.batches import Batch, Batches
from model.machine.distributed import World
from model.network.folder import get_model_tensors
from model.network.lora import AdaptedModel
from model.network.transformer import Transformer
from model.training.activation_checkpointing import KINDS, Kind
from model.training.checkpoints import RetentionPolicy
from model.training.compute import Compute, Log, choose_compute
from model.training.optim import Optimizer, OptimSettings, clip_gradients, get_grad
from model.training.saver import Saver, StepRecord
from model.training.schedule import Schedule
from model.training.spikes import (
    DivergedError,
    TrainingEvent,
    WatchSettings,
    compute_batch_number,
    find_problem,
    plan_rollback,
)

Evaluate = Callable[[Transformer], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Schedule):
    """The settings of the schedule and of the loop.

    `micro_rows`: rows that each process computes at once (0 = its whole share); the rest is gradient accumulation.
    `eval_every` and `checkpoint_every` count steps, 0 = only at the end; `checkpoint_every_seconds` applies independently. The
    newest `keep_checkpoints` are kept, one every `keep_every` steps (0 = none), and with `keep_best` the one with the lowest
    held-out loss. `use_kernels`: model.training.fused, on a CPU with fast bf16; `use_compile`: torch.compile, elsewhere. Where
    they can't run, the loop logs the reason and falls back. `activation_checkpointing` trades time for memory in plain torch,
    which GPUs run (model.training.activation_checkpointing); the result is the same.
    """

    optim: OptimSettings = field(default_factory=OptimSettings)
    max_grad_norm: float = 1.0
    micro_rows: int = 0
    eval_every: int = 0
    checkpoint_every: int = 0
    checkpoint_every_seconds: float = 60.0
    keep_checkpoints: int = 2
    keep_every: int = 0
    keep_best: bool = False
    watch: WatchSettings = field(default_factory=WatchSettings)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    use_kernels: bool = True
    use_compile: bool = True
    activation_checkpointing: Kind = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "max_grad_norm",
            "micro_rows",
            "eval_every",
            "checkpoint_every",
            "checkpoint_every_seconds",
            "keep_every",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must be at least 0, got {getattr(self, name)}")
        if self.keep_checkpoints < 1:
            raise ValueError(f"train.keep_checkpoints must be at least 1, got {self.keep_checkpoints}")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"train.precision must be auto, bf16 or fp32, got {self.precision!r}")
        if self.activation_checkpointing not in KINDS:
            raise ValueError(
                f"train.activation_checkpointing must be one of {', '.join(KINDS)}, got {self.activation_checkpointing!r}"
            )


class Trained(Protocol):
    """A model, and the module whose parameters are optimized: the model itself, or an adapter of it."""

    @property
    def model(self) -> Transformer: ...

    @property
    def module(self) -> nn.Module: ...

    def write_weights(self) -> None:
        """Update the model's weights from the module's parameters."""
        ...

    def set_gradients(self) -> None:
        """Set the gradients of the module's parameters from those of the model's weights."""
        ...


@dataclass(frozen=True)
class WholeModel:
    """A model all of whose parameters are trained."""

    model: Transformer

    @property
    def module(self) -> nn.Module:
        return self.model

    def write_weights(self) -> None:
        """Do nothing: the parameters are the weights."""

    def set_gradients(self) -> None:
        """Do nothing: the parameters are the weights."""


def train(
    model: Transformer,
    batches: Batches,
    *,
    settings: TrainSettings,
    checkpoints: Path,
    evaluate: Evaluate | None = None,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    on_message: Callable[[str], None] = lambda text: None,
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
    name_batch: Callable[[int], str] = lambda batch: "",
    world: World | None = None,
    adapted: AdaptedModel | None = None,
) -> list[StepRecord]:
    """Train the model, resuming from the newest intact checkpoint of this run in `checkpoints`. Return the history.

    `evaluate` receives the model in the dtype it is computed in (bf16 where that is fast), on the main process only, and must not
    change it. Its result goes into the history: metrics (the lowest value of the first one is the best), and any other JSON value.
    `on_event` receives every skipped batch, including those of earlier starts; `name_batch` describes the contents of a batch. With
    `adapted`, which has this model, only its adapter is trained; afterwards the model has the adapted weights.
    Raises: DivergedError; ValueError for settings that don't fit the batches.
    """
    world = world or World()
    trained: Trained = adapted or WholeModel(model)
    schedule: Schedule = settings
    log = on_message if world.is_main else lambda text: None
    fingerprint = _compute_fingerprint(trained, batches, settings)
    compute = _make_compute(model, settings, world, log)
    if adapted is not None:
        adapted.move_to(world)
    optimizer = Optimizer(trained.module, settings.optim, muon_dtype=compute.dtype, world=world)
    saver = Saver(
        checkpoints,
        fingerprint,
        trained.module,
        optimizer,
        world,
        log,
        every=(settings.checkpoint_every, settings.keep_every),
        every_seconds=settings.checkpoint_every_seconds,
        keep_best=settings.keep_best,
        policy=RetentionPolicy(
            last=settings.keep_checkpoints,
            every=settings.keep_every,
            back_steps=settings.watch.back_steps if settings.watch.max_skips else 0,
        ),
    )
    history, events = saver.load()
    if history:
        log(f"continuing after step {history[-1].step} of {settings.total_steps}")
    elif settings.watch.max_skips and settings.watch.back_steps:
        saver.save(history, events)  # a first checkpoint to roll back to
    for event in events:
        on_event(event)
    seconds = history[-1].seconds if history else 0.0
    started_at = time.perf_counter()
    while (step := len(history)) < settings.total_steps:
        number = compute_batch_number(step, events)
        accumulated = _accumulate_gradients(number, trained, compute, batches, settings, world)
        loss, grad_norm, n_tokens, rows, objective = accumulated
        reason = find_problem(
            loss, grad_norm, [record.loss_nats for record in history[-settings.watch.window_steps :]], settings.watch
        )
        if reason:
            event = plan_rollback(step, reason, events, settings.watch)
            contents = name_batch(number) if world.is_main else ""
            if len(events) >= settings.watch.max_skips:
                raise DivergedError(_describe_divergence(event, rows, contents))
            events.append(event)
            on_event(event)
            log(
                f"step {step}: {reason}; resuming from step {event.resumed_step} without batches {event.left_out}{contents}"
            )
            if event.resumed_step < step:
                history, _ = saver.load(up_to=event.resumed_step)
            continue
        optimizer.step(schedule(step))
        trained.write_weights()
        now = time.perf_counter()
        span, started_at = now - started_at, now
        seconds += span
        n_done = step + 1
        is_last = n_done == settings.total_steps
        evaluation: Mapping[str, Any] = {}
        if evaluate is not None and (is_last or (settings.eval_every and n_done % settings.eval_every == 0)):
            evaluated = compute.model_for_evaluation() if world.is_main or world.is_sharded else model
            evaluation = dict(evaluate(evaluated)) if world.is_main else {}
        record = StepRecord(
            step=n_done,
            loss_nats=loss,
            lr=schedule(step),
            tokens=(history[-1].tokens if history else 0) + n_tokens,
            seconds=seconds,
            tokens_per_second=n_tokens / span,
            grad_norm=grad_norm,
            objective=objective,
            evaluation=evaluation,
        )
        history.append(record)
        if world.is_main:
            on_step(record)
        if is_last or saver.is_due(history):
            saver.save(history, events)
        seconds += time.perf_counter() - started_at  # evaluation and checkpoints count too
        started_at = time.perf_counter()
    world.barrier()
    return history


def _make_compute(model: Transformer, settings: TrainSettings, world: World, log: Log) -> Compute:
    """Return the way to compute the passes that the settings and the world ask for."""
    if world.is_sharded:
        from model.training.sharding import ShardedCompute  # whose libraries take a second to import

        return ShardedCompute(
            model,
            world,
            precision=settings.precision,
            use_compile=settings.use_compile,
            activation_checkpointing=settings.activation_checkpointing,
            log=log,
        )
    return choose_compute(
        model.to(world.device),
        precision=settings.precision,
        use_kernels=settings.use_kernels,
        use_compile=settings.use_compile,
        activation_checkpointing=settings.activation_checkpointing,
        log=log,
    )


def _accumulate_gradients(
    number: int,
    trained: Trained,
    compute: Compute,
    batches: Batches,
    settings: TrainSettings,
    world: World,
) -> tuple[float, float, int, tuple[int, ...], dict[str, float]]:
    """Accumulate gradients for one batch and clip them. Return (mean nats per target, gradient norm before clipping, tokens, rows,
    means of an objective's measurements), all but the rows over the global batch."""
    trained.write_weights()  # those of a checkpoint that was just loaded
    batch = batches.at(number, rank=world.rank, n_ranks=world.n_ranks)
    # Counts and sums stay on the device: there is one synchronization with the GPU, at the end.
    n_targets = torch.full((), _count_units(batch), dtype=torch.float64, device=world.device)
    world.sum_tensors([n_targets])
    compute.update()
    for parameter in trained.model.parameters():
        parameter.grad = None
    divisor = n_targets.clamp(min=1)
    nats = torch.zeros_like(n_targets)
    for part in _split_batch(batch, settings):
        nats += compute.add_gradients(part, divisor)
    trained.set_gradients()
    parameters = list(trained.module.parameters())
    grads = [
        get_grad(parameter) for parameter in parameters if not world.is_sharded
    ]  # if sharded, the backward pass has summed them
    world.sum_tensors([*grads, nats])
    limit = settings.max_grad_norm or float("inf")
    norm = clip_gradients(parameters, limit)
    loss, n_scored, grad_norm = torch.stack([nats / divisor, n_targets, norm.double()]).tolist()
    if not n_scored:
        raise DivergedError(f"step {number} has no target in rows {batch.rows}; remove these rows")
    return loss, grad_norm, batch.ids.numel() * world.n_ranks, batch.rows, _average_sums(batch, n_scored, world)


def _average_sums(batch: Batch, n_units: float, world: World) -> dict[str, float]:
    """Return the means of what the objective has measured, over the units of the global batch; empty without an objective."""
    if batch.objective is None:
        return {}
    sums = batch.objective.pop_sums()
    values = torch.tensor(list(sums.values()), dtype=torch.float64, device=world.device)
    world.sum_tensors([values])
    return dict(zip(sums, (values / n_units).tolist(), strict=True))


def _count_units(batch: Batch) -> int:
    """Return how many targets, or units of the objective, the loss is a mean over."""
    return int((batch.targets >= 0).sum()) if batch.objective is None else batch.objective.count_units(batch)


def _describe_divergence(event: TrainingEvent, rows: tuple[int, ...], contents: str) -> str:
    """Return the error message for a step that must not be applied."""
    return (
        f"training diverged at step {event.step}: {event.reason} on rows {rows}{contents}; lower the learning rates, inspect "
        "these rows, or allow training to skip them (spikes.max_skips)"
    )


def _split_batch(batch: Batch, settings: TrainSettings) -> Iterator[Batch]:
    """Yield the micro-batches of a process's rows. Raises: ValueError if `micro_rows` does not divide them."""
    n_rows = len(batch.ids)
    size = min(settings.micro_rows or n_rows, n_rows)
    if n_rows % size:
        raise ValueError(
            f"train.micro_rows must divide the rows of a process, got {size} and {n_rows}; change one of them"
        )
    for start in range(0, n_rows, size):
        part = slice(start, start + size)
        documents = None if batch.documents is None else batch.documents[part]
        weights = None if batch.weights is None else batch.weights[part]
        soft = None if batch.soft is None else batch.soft.select(part)
        yield Batch(batch.ids[part], batch.targets[part], documents, batch.rows[part], weights, batch.objective, soft)


def _compute_fingerprint(trained: Trained, batches: Batches, settings: TrainSettings) -> str:
    """Hash everything that determines the result: model sizes, initial weights, data shape, first batch, settings. The number of
    ranks is not part of it."""
    model = trained.model
    relevant = asdict(settings)
    for name in ("eval_every", "checkpoint_every", "checkpoint_every_seconds", "micro_rows"):
        del relevant[name]
    for name in ("keep_checkpoints", "keep_every", "keep_best", "activation_checkpointing"):
        del relevant[name]
    digest = hashlib.sha256(repr((sorted(relevant.items()), model.config, batches.n_rows, batches.batch_rows)).encode())
    first = batches.at(0)
    soft = first.soft[:2] if first.soft is not None else ()
    if first.soft is not None:
        digest.update(repr(first.soft[2:]).encode())
    parts = (part for part in (*first[:3], first.weights, *soft) if part is not None)
    tensors = list(get_model_tensors(model).values())
    if isinstance(trained, AdaptedModel):
        tensors += get_model_tensors(trained.adapter).values()
        digest.update(repr(trained.adapter.settings).encode())
    for tensor in (*tensors, *parts):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
