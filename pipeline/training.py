"""What pretrain and sft share around the training loop: settings, device, progress, the curve of held-out bits per byte.

In: a model, its batches, the `training` section of the params. Out: the trained model in the stage's folder with
`history.jsonl`, which holds no clocks, so that the same run gives the same bytes, and `events.jsonl` where batches were left
out. Clock readings (tokens per second, MFU) are reported to the frame, and written to scratch as they come (pipeline/live.py).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from model.activation_checkpointing import KINDS, Kind
from model.batches import Batches
from model.checkpoint import save_model
from model.distributed import World, connect
from model.hardware import has_fast_bf16
from model.optim import OptimSettings
from model.prefetch import Prefetched
from model.tokenizer import Tokenizer
from model.train import StepRecord, TrainSettings, train
from model.transformer import Transformer
from model.watch import Event, WatchSettings
from pipeline.errors import UserError
from pipeline.live import Live
from pipeline.params import Optimization
from pipeline.peak import peak_tflops
from pipeline.progress import Bar, short
from pipeline.stage import Metrics, report_timings

Evaluation = Callable[[Transformer], Mapping[str, Any]]
DocumentsOf = Callable[[int], Sequence[str]]  # the number of a batch → ids
SHOWN_DOCUMENTS = 8
CLOCKS = ("seconds", "tokens_per_second")  # what differs between two runs of the same thing


def device_wanted() -> str:
    """MINIGPT_DEVICE = auto | cpu | cuda: where to run is no param, for it changes no more than last digits."""
    return os.environ.get("MINIGPT_DEVICE", "auto")


def sharding_wanted() -> str:
    """MINIGPT_SHARDING = none | full: who holds what changes no more than last digits."""
    return os.environ.get("MINIGPT_SHARDING", "none")


def world_wanted() -> AbstractContextManager[World]:
    """As the environment asks for it. MINIGPT_TIMEOUT_SECONDS is how long processes wait for each other: longer than the main one
    takes for an evaluation."""
    seconds = count_wanted("MINIGPT_TIMEOUT_SECONDS", 600)
    return connect(device_wanted(), sharding=sharding_wanted(), timeout_seconds=seconds)


def count_wanted(name: str, otherwise: int) -> int:
    """A number from the environment. Raises: `UserError` for anything else."""
    found = os.environ.get(name) or str(otherwise)
    if not found.isdigit():
        raise UserError(f"{name}: not a number", repr(found), "give a whole number, or unset it")
    return int(found)


def checkpointing_wanted() -> Kind:
    """MINIGPT_ACTIVATION_CHECKPOINTING = none | selective | full: memory and time, not the result. Raises: `UserError`."""
    found = os.environ.get("MINIGPT_ACTIVATION_CHECKPOINTING") or "none"
    if found not in KINDS:
        raise UserError(
            "MINIGPT_ACTIVATION_CHECKPOINTING: not known", repr(found), f"give one of {', '.join(KINDS)}, or unset it"
        )
    return found


def settings_of(params: Optimization) -> TrainSettings:
    """The loop's settings from the params of one phase."""
    optim = OptimSettings(
        matrix_lr=params.matrix_lr,
        embedding_lr=params.embedding_lr,
        head_lr=params.head_lr,
        norm_lr=params.norm_lr,
        weight_decay=params.weight_decay,
        momentum=params.momentum,
    )
    return TrainSettings(
        total_steps=params.total_steps,
        optim=optim,
        warmup_frac=params.warmup_frac,
        decay_frac=params.decay_frac,
        final_frac=params.final_lr_frac,
        max_grad_norm=params.max_grad_norm,
        micro_rows=params.micro_rows,
        eval_every=params.eval_every,
        watch=WatchSettings(**params.spikes.model_dump()) if params.spikes else WatchSettings(),
        keep_checkpoints=count_wanted("MINIGPT_KEEP_CHECKPOINTS", 2),
        keep_every=count_wanted("MINIGPT_KEEP_EVERY", 0),
        keep_best=os.environ.get("MINIGPT_KEEP_BEST", "0") == "1",
        use_compile=os.environ.get("MINIGPT_COMPILE", "1") != "0",
        activation_checkpointing=checkpointing_wanted(),
        checkpoint_every_seconds=float(os.environ.get("MINIGPT_CHECKPOINT_SECONDS", "30")),
    )


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
) -> Metrics:
    """Trains (or goes on with what `scratch` holds) and writes the model folder; only the main process has metrics to give.

    `documents_of` gives the ids of what a batch is made of, to name them when something goes wrong. With `bytes_per_token` the
    loss of each step is shown in bits per byte too.
    """
    epochs = params.total_steps * batches.batch_rows / batches.n_rows
    say = print if world.is_main else (lambda _: None)
    say(
        f"{stage}: {short(model.config.n_parameters)} parameters, {params.total_steps} steps of {batches.batch_rows} x "
        f"{model.config.seq_len} tokens, {epochs:.2f} epochs, {world.n_ranks} process(es) on {world.device}"
    )
    if sharding_wanted() == "full" and not world.is_sharded:
        say(f"{stage}: MINIGPT_SHARDING=full has no effect: a single process has nothing to share out")
    peak = measured_peak_of(world)
    events: list[Event] = []
    bar = Bar(stage, params.total_steps, "steps", is_shown=world.is_main)
    with bar, Live(stage, scratch) as live, Prefetched(batches) as ahead:

        def on_step(record: StepRecord) -> None:
            if not bar.done:
                bar.start_at(record.step - 1)
            bar.advance(note=describe(record, mfu_of(record.tokens_per_second, model, peak), bytes_per_token))
            live.on_step(record)

        history = train(
            model,
            ahead,
            settings=settings_of(params),
            checkpoints=scratch / "checkpoints",
            evaluate=evaluate,
            on_step=on_step,
            on_message=lambda text: say(f"{stage}: {text}"),
            on_event=events.append,
            name_batch=lambda batch: name_documents(documents_of(batch)),
            world=world,
        )
    weights = None
    if world.is_sharded:
        from model.sharding import whole_weights

        weights = {name: weight.cpu() for name, weight in whole_weights(model, world)}
    if not world.is_main:
        return {}
    save_model(out, model, tokenizer, phase=stage, weights=weights)
    write_history(out / "history.jsonl", history)
    metrics = summarise(history, model, epochs)
    report_speed(history[-1], model, peak)
    if params.spikes or events:
        metrics["batches_left_out"] = sum(len(event.left_out) for event in events)
        write_events(out / "events.jsonl", events, documents_of)
    return metrics


def name_documents(ids: Sequence[str]) -> str:
    """For a message: the first few, and how many there are."""
    shown = ", ".join(ids[:SHOWN_DOCUMENTS])
    more = f" and {len(ids) - SHOWN_DOCUMENTS} more" if len(ids) > SHOWN_DOCUMENTS else ""
    return f" (of {shown}{more})" if ids else ""


def write_events(path: Path, events: list[Event], documents_of: DocumentsOf) -> None:
    """One JSON object for each time that batches were left out, with the ids of all that the bad one is made of."""
    rows = [event.to_dict() | {"documents": list(documents_of(event.batch))} for event in events]
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")


def describe(record: StepRecord, mfu: float, bytes_per_token: float = 0.0) -> str:
    """The note beside the bar: loss, speed, and held-out bits per byte where they were just measured."""
    parts = [f"loss {record.loss_nats:.3f}"]
    if bytes_per_token:
        parts.append(f"bpb {record.loss_nats / math.log(2) / bytes_per_token:.3f}")
    parts += [f"{short(record.tokens_per_second)} tokens/s", f"MFU {mfu:.1%}"]
    held_out = [f"held-out {name.removeprefix('heldout_')} {value:.3f}" for name, value in figures_of(record).items()]
    return ", ".join([*parts, *held_out])


def measured_peak_of(world: World) -> float:
    """FLOP/s of all processes together, at the precision that training takes; each has its own cores or its own GPU."""
    is_bf16 = has_fast_bf16(world.device)
    return peak_tflops(world.device, is_bf16=is_bf16)[0] * 1e12 * world.n_ranks if world.is_main else math.inf


def mfu_of(tokens_per_second: float, model: Transformer, peak: float) -> float:
    """Model FLOPs a second as a share of the peak (PaLM, Chowdhery et al. 2022, appendix B; the causal half of attention)."""
    return tokens_per_second * model.config.flops_per_token() / peak


def report_speed(last: StepRecord, model: Transformer, peak: float) -> None:
    """Report the time of the whole run, resumed or not, to the frame."""
    rate = last.tokens / last.seconds
    report_timings(train_seconds=last.seconds, tokens_per_second=rate, mfu=mfu_of(rate, model, peak))


def figures_of(record: StepRecord) -> dict[str, float]:
    """What was measured at this step, without samples."""
    return {name: value for name, value in record.evaluation.items() if isinstance(value, float)}


def write_history(path: Path, history: list[StepRecord]) -> None:
    """One JSON object a step, without clocks."""
    rows = [{key: value for key, value in record.to_dict().items() if key not in CLOCKS} for record in history]
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")


def summarise(history: list[StepRecord], model: Transformer, epochs: float) -> Metrics:
    """Flat figures of a finished run; the loss is the mean over the last tenth of the steps."""
    tail = history[-max(len(history) // 10, 1) :]
    last = history[-1]
    metrics: Metrics = {
        "n_params": model.config.n_parameters,
        "steps": last.step,
        "tokens": last.tokens,
        "epochs": epochs,
        "train_loss_nats": math.fsum(record.loss_nats for record in tail) / len(tail),
    }
    return metrics | {f"heldout_{name.removeprefix('heldout_')}": value for name, value in figures_of(last).items()}
