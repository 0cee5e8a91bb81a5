"""python -m pipeline.launch plan [--recipe NAME] [--devices N] [--device h100] …: what a run will take, before it runs.

In: a recipe and a kind of device. Out: a table (or JSON) of parameters, tokens, FLOPs, memory per device by kind, hours and cost,
for each phase of training. The counts are model.plan's; hours follow from the share of the device's peak that is stated (MFU).
Peaks are the makers' figures for dense bf16; a CPU's is measured for half a second, as torch.mm reaches it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from model.budget import COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER
from model.config import ModelConfig
from model.plan import Run, memory
from pipeline.budget import settle
from pipeline.errors import UserError
from pipeline.params import Params, load_params
from pipeline.peak import DEVICES, measured_peak
from pipeline.progress import clock, short
from pipeline.workers.map import worker_count

RECIPES = Path(__file__).parent.parent / "docs" / "recipes"
GPU_MFU = 0.4  # nanochat reaches 0.41 to 0.46 in bf16, torchtitan 0.33 to 0.39
CPU_MFU = 0.6
Checkpointing = Literal["none", "selective", "full"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device, and how the training loop computes on it. A CPU's process is one device."""

    name: str
    tflops: float
    memory_gb: float
    mfu: float
    compute: Literal["kernels", "torch"] = "torch"
    is_cuda: bool = True
    is_compiled: bool = True
    is_bf16: bool = True


def main(argv: Sequence[str]) -> int:
    """Prints the plan. Raises: `UserError` and ValueError for what can't run."""
    args = _parser().parse_args(argv)
    path = recipe_path(args.recipe)
    device = device_of(args.device, args.devices, tflops=args.tflops, memory_gb=args.device_memory_gb, mfu=args.mfu)
    params = load_params(path)
    if args.measure:
        device = measured(params, device, args.devices)
    plan = plan_of(
        params,
        device,
        args.devices,
        is_sharded=args.sharding == "full",
        activation_checkpointing=args.activation_checkpointing,
    )
    plan = {"recipe": str(path), **plan}
    if args.price_per_hour is not None:
        plan["cost"] = plan["hours"] * args.devices * args.price_per_hour
    if args.json:
        print(json.dumps(plan))
    else:
        show(plan, Console())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.launch plan", description="What a run will take, before it runs."
    )
    parser.add_argument("--recipe", default="params.yaml", help="a name in docs/recipes, or a file (params.yaml)")
    parser.add_argument("--devices", type=_positive, default=1, help="how many: GPUs, or processes on a CPU (1)")
    parser.add_argument("--device", choices=["cpu", *DEVICES], default="cpu", help="their kind (cpu)")
    parser.add_argument("--device-memory-gb", type=float, help="of one device (that of its kind)")
    parser.add_argument(
        "--tflops", type=float, help="peak of one device in bf16 (that of its kind; a CPU's is measured)"
    )
    parser.add_argument("--mfu", type=float, help=f"share of the peak that is reached ({GPU_MFU}; on a CPU {CPU_MFU})")
    parser.add_argument(
        "--measure", action="store_true", help="on a CPU: take the MFU of a few real steps of the recipe's model"
    )
    parser.add_argument("--price-per-hour", type=float, help="of one device, in any currency")
    parser.add_argument(
        "--sharding",
        choices=["none", "full"],
        default="none",
        help="none: each device holds the whole model, as training does; full: what ZeRO-3 would leave on each",
    )
    parser.add_argument(
        "--activation-checkpointing",
        choices=["none", "selective", "full"],
        default="none",
        help="what the backward pass computes again, as MINIGPT_ACTIVATION_CHECKPOINTING (the CPU kernels keep everything)",
    )
    parser.add_argument("--json", action="store_true", help="one line for programs")
    return parser


def _positive(text: str) -> int:
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def recipe_path(name: str) -> Path:
    """A file, or a recipe by its name."""
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name in known:
        return RECIPES / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    raise UserError(f"plan: no recipe {name}", f"docs/recipes has {', '.join(known)}", "name one of them, or a file")


def device_of(
    kind: str, n_devices: int, *, tflops: float | None = None, memory_gb: float | None = None, mfu: float | None = None
) -> Device:
    """What the kind is known for, with the given figures in its place."""
    for name, value in (("--tflops", tflops), ("--device-memory-gb", memory_gb), ("--mfu", mfu)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"plan: {name} must be above 0", str(value), "correct it")
    if mfu is not None and mfu > 1:
        raise UserError("plan: --mfu is a share of the peak", str(mfu), "give a number up to 1")
    if kind != "cpu":
        known_tflops, known_gb = DEVICES[kind]
        return Device(
            name=kind,
            tflops=tflops or known_tflops,
            memory_gb=memory_gb or known_gb,
            mfu=GPU_MFU if mfu is None else mfu,
        )
    import torch  # a second, which a plan for GPUs does not need

    from model.hardware import compiler_problem, has_fast_bf16, kernel_problem

    is_bf16 = has_fast_bf16(torch.device("cpu"))
    return Device(
        name="cpu",
        tflops=tflops
        or measured_peak(torch.device("cpu"), is_bf16=is_bf16, n_threads=max(worker_count() // n_devices, 1)),
        memory_gb=memory_gb or psutil.virtual_memory().total / 1e9 / n_devices,
        mfu=CPU_MFU if mfu is None else mfu,
        compute="kernels" if is_bf16 and kernel_problem() is None else "torch",
        is_cuda=False,
        is_compiled=compiler_problem("cpu") is None,
        is_bf16=is_bf16,
    )


def measured(params: Params, device: Device, n_devices: int) -> Device:
    """The device with the MFU that pretraining reaches on it. Raises: `UserError` for a device that is not this machine's CPU."""
    if device.is_cuda:
        raise UserError("plan: --measure is for this machine's CPU", device.name, "give --mfu")
    from pipeline.probe import measured_tokens_per_second

    config = config_of(params)
    training = settle(params.pretrain, config)
    share, n_threads = training.batch_rows // n_devices, max(worker_count() // n_devices, 1)
    speed = measured_tokens_per_second(config, share, training.micro_rows, n_threads)
    return replace(device, mfu=speed * config.flops_per_token() / (device.tflops * 1e12))


def config_of(params: Params) -> ModelConfig:
    """A vocabulary of characters may turn out smaller than its setting."""
    return ModelConfig(vocab_size=params.train_tokenizer.vocab_size, **params.pretrain.model.model_dump())


def plan_of(
    params: Params,
    device: Device,
    n_devices: int,
    *,
    is_sharded: bool = False,
    activation_checkpointing: Checkpointing = "none",
) -> dict[str, Any]:
    """Flat figures, and one dict a phase."""
    config = config_of(params)
    phases: dict[str, dict[str, Any]] = {}
    for stage, training in (("pretrain", settle(params.pretrain, config)), ("sft", params.sft.training)):
        run = Run(
            config=config,
            total_steps=training.total_steps,
            batch_rows=training.batch_rows,
            micro_rows=training.micro_rows,
            n_devices=n_devices,
            compute=device.compute,
            is_cuda=device.is_cuda,
            is_compiled=device.is_compiled,
            is_bf16=device.is_bf16,
            is_sharded=is_sharded,
            masks_documents=stage == "sft",
            activation_checkpointing=activation_checkpointing,
        )
        phases[stage] = _phase(run, device)
    peak = max(phase["bytes"]["peak"] for phase in phases.values())
    return {
        "device": device.name,
        "devices": n_devices,
        "tflops": device.tflops,
        "mfu": device.mfu,
        "sharding": "full" if is_sharded else "none",
        "activation_checkpointing": activation_checkpointing,
        "n_params": config.n_parameters,
        "vocab_size": config.vocab_size,
        "seq_len": config.seq_len,
        "flops_per_token": config.flops_per_token(),
        "compute_optimal_tokens": COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER * config.n_parameters,
        "phases": phases,
        "hours": sum(phase["hours"] for phase in phases.values()),
        "device_memory_bytes": round(device.memory_gb * 1e9),
        "fits": peak <= device.memory_gb * 1e9,
    }


def _phase(run: Run, device: Device) -> dict[str, Any]:
    seconds = run.seconds(device.tflops, device.mfu)
    return {
        "steps": run.total_steps,
        "batch_rows": run.batch_rows,
        "batch_tokens": run.step_tokens,
        "micro_rows": run.rows_at_once,
        "tokens": run.tokens,
        "tokens_per_parameter": run.tokens / run.config.n_parameters,
        "flops": run.flops,
        "bytes": asdict(memory(run)),
        "tokens_per_second": run.tokens / seconds,
        "hours": seconds / 3600,
    }


def show(plan: dict[str, Any], console: Console) -> None:
    """The same for people: a column a phase."""
    table = Table(title=f"{Path(plan['recipe']).stem} on {plan['devices']} × {plan['device']}", title_justify="left")
    table.add_column("")
    for stage in plan["phases"]:
        table.add_column(stage, justify="right")
    phases = list(plan["phases"].values())

    def row(name: str, texts: list[str]) -> None:
        table.add_row(name, *texts)

    row("parameters", [short(plan["n_params"])] * len(phases))
    row("steps × tokens", [f"{phase['steps']} × {short(phase['batch_tokens'])}" for phase in phases])
    row("tokens", [short(phase["tokens"]) for phase in phases])
    row("tokens per parameter", [f"{phase['tokens_per_parameter']:.3g}" for phase in phases])
    row("FLOPs", [f"{phase['flops']:.2e}" for phase in phases])
    row(f"tokens/s at {plan['mfu']:.0%} MFU", [short(phase["tokens_per_second"]) for phase in phases])
    row(
        "time",
        [clock(phase["hours"] * 3600) for phase in phases],
    )
    table.add_section()
    for kind in phases[0]["bytes"]:
        if kind == "peak":
            table.add_section()
        row(f"{kind} per device", [gigabytes(phase["bytes"][kind]) for phase in phases])
    console.print(table)
    has = gigabytes(plan["device_memory_bytes"])
    verdict = (
        "fits" if plan["fits"] else "does not fit: lower micro_rows, checkpoint activations, or take other devices"
    )
    how = f"sharding: {plan['sharding']}, activation checkpointing: {plan['activation_checkpointing']}"
    console.print(f"memory: {has} on each device, {verdict} ({how})")
    console.print(
        f"time in all: {clock(plan['hours'] * 3600)} at {plan['tflops']:.3g} TFLOP/s a device and {plan['mfu']:.0%} MFU"
    )
    if "cost" in plan:
        console.print(f"cost: {plan['cost']:,.2f}")


def gigabytes(n_bytes: int) -> str:
    """1234567890 → '1.23 GB'."""
    return f"{n_bytes / 1e9:.3g} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.3g} MB"
