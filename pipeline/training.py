"""What pretrain and sft share around the training loop: settings, device, progress, the curve of held-out bits per byte.

In: a model, its batches, the `training` section of the params. Out: the trained model in the stage's folder with
`history.jsonl`, which holds no clocks, so that the same run gives the same bytes. Figures that depend on the machine
(tokens a second) go into the metrics only.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from model.batches import Batches
from model.checkpoint import save_model
from model.distributed import World
from model.optim import OptimSettings
from model.tokenizer import Tokenizer
from model.train import StepRecord, TrainSettings, train
from model.transformer import Transformer
from pipeline.params import Optimization
from pipeline.progress import Bar, short
from pipeline.stage import Metrics

Evaluation = Callable[[Transformer], Mapping[str, float]]
CLOCKS = ("seconds", "tokens_per_second")  # what differs between two runs of the same thing


def device_wanted() -> str:
    """MINIGPT_DEVICE = auto | cpu | cuda: where to run is no param, for it changes no more than last digits."""
    return os.environ.get("MINIGPT_DEVICE", "auto")


def settings_of(params: Optimization) -> TrainSettings:
    """The loop's settings from the params of one phase."""
    optim = OptimSettings(
        matrix_lr=params.matrix_lr,
        embedding_lr=params.embedding_lr,
        head_lr=params.head_lr,
        norm_lr=params.norm_lr,
        weight_decay=params.weight_decay,
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
        use_compile=os.environ.get("MINIGPT_COMPILE", "1") != "0",
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
    world: World,
    scratch: Path,
    out: Path,
) -> Metrics:
    """Trains (or goes on with what `scratch` holds) and writes the model folder; only the main process has metrics to give."""
    epochs = params.total_steps * batches.batch_rows / batches.n_rows
    say = print if world.is_main else (lambda _: None)
    say(
        f"{stage}: {short(model.config.n_parameters)} parameters, {params.total_steps} steps of {batches.batch_rows} x "
        f"{model.config.seq_len} tokens, {epochs:.2f} epochs, {world.n_ranks} process(es) on {world.device}"
    )
    with Bar(stage, params.total_steps, "steps", is_shown=world.is_main) as bar:

        def on_step(record: StepRecord) -> None:
            if not bar.done:
                bar.start_at(record.step - 1)
            bar.advance(note=describe(record))

        history = train(
            model,
            batches,
            settings=settings_of(params),
            checkpoints=scratch / "checkpoints",
            evaluate=evaluate,
            on_step=on_step,
            on_message=lambda text: say(f"{stage}: {text}"),
            world=world,
        )
    if not world.is_main:
        return {}
    save_model(out, model, tokenizer, phase=stage)
    write_history(out / "history.jsonl", history)
    return summarise(history, model, epochs)


def describe(record: StepRecord) -> str:
    """The note beside the bar: loss, speed, and held-out bits per byte where they were just measured."""
    parts = [f"loss {record.loss_nats:.3f}", f"{short(record.tokens_per_second)} tokens/s"]
    return ", ".join(
        parts + [f"held-out {name.removeprefix('heldout_')} {value:.3f}" for name, value in record.evaluation.items()]
    )


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
        "train_seconds": last.seconds,
        "tokens_per_second": last.tokens / last.seconds,
    }
    return metrics | {f"heldout_{name.removeprefix('heldout_')}": value for name, value in last.evaluation.items()}
