"""Run one training phase of pretrain or sft: settings, device, progress, held-out curve, the model folder.

In: a model, its batches, the `training` section of the params. Out: the trained model in the stage's folder with `history.jsonl`,
without clock readings, so that the same run gives the same bytes, and `events.jsonl` if batches were skipped. Clock readings
(tokens per second, MFU) are reported to the frame and written to scratch during the run (pipeline/training/live.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from model.data.batches import Batches
from model.data.prefetch import Prefetcher
from model.machine.distributed import World, connect
from model.machine.hardware import has_fast_bf16
from model.network.adapter_folder import describe_adapter, save_adapter
from model.network.folder import save_model
from model.network.lora import AdaptedModel, LoraAdapter, LoraSettings
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer
from model.training.activation_checkpointing import Kind
from model.training.loop import StepRecord, TrainSettings, train
from model.training.optim import OptimSettings
from model.training.spikes import TrainingEvent, WatchSettings
from pipeline.frame.environment import read, read_count, read_flag, read_seconds
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar, short
from pipeline.frame.timings import report_timings
from pipeline.training.live import Live
from pipeline.training.params import Adapter, Optimization
from pipeline.training.peak import get_peak_tflops

Evaluation = Callable[[Transformer], Mapping[str, Any]]
DocumentsOf = Callable[[int], Sequence[str]]  # the number of a batch → ids
SHOWN_DOCUMENTS = 8
CLOCKS = ("seconds", "tokens_per_second")  # fields that differ between two identical runs


def open_world() -> AbstractContextManager[World]:
    """Return the World that the environment selects: device and sharding change only the last digits of a result.

    MINIGPT_TIMEOUT_SECONDS must exceed the time of an evaluation by the main process, during which the others wait.
    """
    timeout = read_seconds("MINIGPT_TIMEOUT_SECONDS")
    return connect(read("MINIGPT_DEVICE"), sharding=read("MINIGPT_SHARDING"), timeout_seconds=timeout)


def make_settings(params: Optimization) -> TrainSettings:
    """Return the settings of the training loop: params by name, and the values that the environment determines."""
    values = params.model_dump(exclude={"spikes"})
    return TrainSettings(
        **_select_values(TrainSettings, values),
        optim=OptimSettings(**_select_values(OptimSettings, values)),
        watch=WatchSettings(**params.spikes.model_dump()) if params.spikes else WatchSettings(),
        keep_checkpoints=read_count("MINIGPT_KEEP_CHECKPOINTS"),
        keep_every=read_count("MINIGPT_KEEP_EVERY"),
        keep_best=read_flag("MINIGPT_KEEP_BEST"),
        use_compile=read_flag("MINIGPT_COMPILE"),
        activation_checkpointing=cast(Kind, read("MINIGPT_ACTIVATION_CHECKPOINTING")),
        checkpoint_every_seconds=read_seconds("MINIGPT_CHECKPOINT_SECONDS"),
    )


def make_adapted_model(params: Adapter | None, model: Transformer, seed: int) -> AdaptedModel | None:
    """Return the base with a new adapter; None where all weights are trained. Raises: ValueError for a rank above a matrix's."""
    if params is None:
        return None
    settings = LoraSettings(kind=params.kind, rank=params.rank, alpha=params.alpha, targets=tuple(params.targets))
    return AdaptedModel(model, LoraAdapter(model, settings, seed=seed))


def _select_values(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values for which a settings dataclass has a field."""
    return {field.name: values[field.name] for field in fields(settings) if field.name in values}


def run_training(
    stage: str,
    model: Transformer,
    tokenizer: Tokenizer,
    batches: Batches,
    params: Optimization,
    *,
    evaluate: Evaluation,
    documents_of: DocumentsOf,
    world: World,
    scratch: Path,
    out: Path,
    bytes_per_token: float = 0.0,
    adapted: AdaptedModel | None = None,
    is_prefetched: bool = True,
) -> Metrics:
    """Train, resuming from `scratch`, and write the model folder. Return metrics on the main process, an empty dict on the others.

    `documents_of` returns the ids of the documents in a batch, for error messages and events.jsonl. With `bytes_per_token` the
    progress bar also shows the loss of each step in bits per byte. With `adapted` only its adapter is trained, and the folder
    written is that of the adapter. Batches that depend on the weights of their step must not be prefetched.
    """
    log = print if world.is_main else (lambda _: None)
    tokens = f"{params.total_steps} steps of {batches.batch_rows} x {model.config.seq_len} tokens"
    log(
        f"{stage}: {short(model.config.n_parameters)} parameters, {tokens}, {world.n_ranks} process(es) on {world.device}"
    )
    if adapted is not None:
        log(f"{stage}: {describe_adapter(adapted.adapter, model)}")
    if read("MINIGPT_SHARDING") == "full" and not world.is_sharded:
        log(f"{stage}: MINIGPT_SHARDING=full has no effect: there is only one process")
    peak = measure_peak_flops(world)
    events: list[TrainingEvent] = []
    bar = Bar(stage, params.total_steps, "steps", is_shown=world.is_main)
    source = Prefetcher(batches) if is_prefetched else nullcontext(batches)
    with bar, Live(stage, scratch) as live, source as prefetched:
        history = train(
            model,
            prefetched,
            settings=make_settings(params),
            checkpoints=scratch / "checkpoints",
            evaluate=evaluate,
            on_step=_make_on_step(bar, live, lambda rate: compute_mfu(rate, model, peak), bytes_per_token),
            on_message=lambda text: log(f"{stage}: {text}"),
            on_event=events.append,
            name_batch=lambda batch: name_documents(documents_of(batch)),
            world=world,
            adapted=adapted,
        )
    weights = _gather_on_main(model, world)
    if not world.is_main:
        return {}
    if adapted is None:
        save_model(out, model, tokenizer, phase=stage, weights=weights)
    else:
        save_adapter(out, adapted, tokenizer)
    write_history(out / "history.jsonl", history)
    report_speed(history[-1], model, peak)
    epochs = history[-1].tokens / model.config.seq_len / batches.n_rows
    return summarize_run(history, model, epochs) | _write_skips(out, params, events, documents_of)


def _make_on_step(
    bar: Bar, live: Live, compute_step_mfu: Callable[[float], float], bytes_per_token: float
) -> Callable[[StepRecord], None]:
    """Return a function that shows each step in the progress bar and reports it live."""

    def on_step(record: StepRecord) -> None:
        if not bar.done:
            bar.start_at(record.step - 1)
        bar.advance(note=describe_step(record, compute_step_mfu(record.tokens_per_second), bytes_per_token))
        live.on_step(record)

    return on_step


def _write_skips(out: Path, params: Optimization, events: list[TrainingEvent], documents_of: DocumentsOf) -> Metrics:
    """Write events.jsonl and return its metrics, if batches could be or were skipped."""
    if not (params.spikes or events):
        return {}
    write_events(out / "events.jsonl", events, documents_of)
    return {"batches_left_out": sum(len(event.left_out) for event in events)}


def _gather_on_main(model: Transformer, world: World) -> dict[str, Tensor] | None:
    """Return the whole weights of a sharded model on the main process; None if the model is not sharded."""
    if not world.is_sharded:
        return None
    from model.training.sharding import gather_weights

    return {name: weight.cpu() for name, weight in gather_weights(model, world)}


def name_documents(ids: Sequence[str]) -> str:
    """Return the first few ids and the number of the others, for a message."""
    shown = ", ".join(ids[:SHOWN_DOCUMENTS])
    more = f" and {len(ids) - SHOWN_DOCUMENTS} more" if len(ids) > SHOWN_DOCUMENTS else ""
    return f" (of {shown}{more})" if ids else ""


def write_events(path: Path, events: list[TrainingEvent], documents_of: DocumentsOf) -> None:
    """Write one JSON object per event, with the ids of all documents in the bad batch."""
    rows = [event.to_dict() | {"documents": list(documents_of(event.batch))} for event in events]
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")


def describe_step(record: StepRecord, mfu: float, bytes_per_token: float = 0.0) -> str:
    """Return the text beside the progress bar: loss, speed, and held-out metrics if they were just measured."""
    parts = [f"loss {record.loss_nats:.3f}"]
    if bytes_per_token:
        parts.append(f"bpb {record.loss_nats / math.log(2) / bytes_per_token:.3f}")
    parts += [f"{short(record.tokens_per_second)} tokens/s", f"MFU {mfu:.1%}"]
    held_out = [
        f"held-out {name.removeprefix('heldout_')} {value:.3f}" for name, value in get_measurements(record).items()
    ]
    return ", ".join([*parts, *held_out])


def measure_peak_flops(world: World) -> float:
    """Return the peak FLOP/s of all processes together, at the precision of training; infinity outside the main process. Each
    process has its own cores or its own GPU."""
    is_bf16 = has_fast_bf16(world.device)
    return get_peak_tflops(world.device, is_bf16=is_bf16)[0] * 1e12 * world.n_ranks if world.is_main else math.inf


def compute_mfu(tokens_per_second: float, model: Transformer, peak: float) -> float:
    """Return the model FLOPs utilization (PaLM, Chowdhery et al. 2022, appendix B, with the causal half of attention)."""
    return tokens_per_second * model.config.count_flops_per_token() / peak


def report_speed(last: StepRecord, model: Transformer, peak: float) -> None:
    """Report the time and speed of the whole run, including earlier starts, to the frame."""
    rate = last.tokens / last.seconds
    report_timings(train_seconds=last.seconds, tokens_per_second=rate, mfu=compute_mfu(rate, model, peak))


def get_measurements(record: StepRecord) -> dict[str, float]:
    """Return the held-out metrics of a step, without samples."""
    return {name: value for name, value in record.evaluation.items() if isinstance(value, float)}


def write_history(path: Path, history: list[StepRecord]) -> None:
    """Write one JSON object per step, without clock readings."""
    rows = [{key: value for key, value in record.to_dict().items() if key not in CLOCKS} for record in history]
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")


def summarize_run(history: list[StepRecord], model: Transformer, epochs: float) -> Metrics:
    """Return the metrics of a finished run; the training loss is the mean over the last tenth of the steps."""
    tail = history[-max(len(history) // 10, 1) :]
    last = history[-1]
    metrics: Metrics = {
        "n_params": model.config.n_parameters,
        "steps": last.step,
        "tokens": last.tokens,
        "epochs": epochs,
        "train_loss_nats": math.fsum(record.loss_nats for record in tail) / len(tail),
    }
    return metrics | {
        f"heldout_{name.removeprefix('heldout_')}": value for name, value in get_measurements(last).items()
    }
