"""python -m pipeline.launch plan [--recipe NAME] [--devices N] [--device h100] …: estimate what a training run takes.

In: a recipe and a kind of device. Out: a table (or JSON) of parameters, tokens, FLOPs, memory per device by kind, hours and cost of
each training phase. Counts come from model.planning.memory, hours from the MFU. Peaks are the vendors' numbers for dense bf16; the
peak of a CPU is measured with torch.mm, in half a second.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from model.network.config import ModelConfig
from model.planning.budget import COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER
from model.planning.memory import PhaseRun, plan_memory
from pipeline.frame.environment import BY_NAME
from pipeline.frame.errors import UserError
from pipeline.frame.progress import clock, short
from pipeline.params import Params, load_params
from pipeline.pretrain.budgeted import complete_training, list_stages
from pipeline.training.peak import DEVICES, measure_peak
from pipeline.workers.map import count_workers

RECIPES = Path(__file__).parent.parent / "docs" / "recipes"
GPU_MFU = 0.4  # nanochat reaches 0.41 to 0.46 in bf16, torchtitan 0.33 to 0.39
CPU_MFU = 0.6
PROBE_STEPS = 6  # the first steps allocate
Checkpointing = Literal["none", "selective", "full"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device, and how the training loop computes on it (as in model.planning.memory.PhaseRun). On a CPU each process counts as
    one device."""

    name: str
    tflops: float
    memory_gb: float
    mfu: float
    compute: Literal["kernels", "torch"] = "torch"
    is_cuda: bool = True
    is_compiled: bool = True
    is_bf16: bool = True


def main(argv: Sequence[str]) -> int:
    """Print the plan and return the exit code. Raises: `UserError` or ValueError for a run that is impossible."""
    args = _make_parser().parse_args(argv)
    path = find_recipe(args.recipe)
    params, n_devices = load_params(path), args.devices
    device = make_device(args.device, n_devices, tflops=args.tflops, memory_gb=args.device_memory_gb, mfu=args.mfu)
    if args.measure:
        device = measure_mfu(params, device, n_devices)
    plan = {
        "recipe": str(path),
        **make_plan(
            params,
            device,
            n_devices,
            is_sharded=args.sharding == "full",
            activation_checkpointing=args.activation_checkpointing,
        ),
    }
    if args.price_per_hour is not None:
        plan["cost"] = plan["hours"] * n_devices * args.price_per_hour
    if args.json:
        print(json.dumps(plan))
    else:
        print_plan(plan, Console())
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.launch plan", description="Estimate what a training run takes."
    )
    add = parser.add_argument
    add("--recipe", default="params.yaml", help="name of a recipe in docs/recipes, or a file (default: params.yaml)")
    add("--devices", type=_parse_positive, default=1, help="number of GPUs, or of processes on a CPU (default: 1)")
    add("--device", choices=["cpu", *DEVICES], default="cpu", help="kind of device (default: cpu)")
    add("--device-memory-gb", type=float, help="memory of one device (default: depends on its kind)")
    add("--tflops", type=float, help="bf16 peak of one device (default: depends on its kind; measured on a CPU)")
    add("--mfu", type=float, help=f"model FLOPs utilization (default: {GPU_MFU}; on a CPU {CPU_MFU})")
    add("--measure", action="store_true", help="measure the MFU on this CPU in a few steps of the recipe's model")
    add("--price-per-hour", type=_parse_price, help="price per hour of one device, in any currency")
    for name in ("MINIGPT_SHARDING", "MINIGPT_ACTIVATION_CHECKPOINTING"):
        variable = BY_NAME[name]
        option = f"--{name.removeprefix('MINIGPT_').lower().replace('_', '-')}"
        add(option, choices=variable.choices, default=variable.default, help=f"as {name}: {variable.meaning}")
    add("--json", action="store_true", help="print one line of JSON")
    return parser


def _parse_price(text: str) -> float:
    """Parse a price. Raises: ArgumentTypeError for what is no number, or is negative or infinite."""
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a price")
    return price


def _parse_positive(text: str) -> int:
    """Parse a positive integer. Raises: ArgumentTypeError for anything else."""
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def find_recipe(name: str) -> Path:
    """Return the file of a recipe, given by name or as a file. Raises: `UserError` if there is none."""
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name in known:
        return RECIPES / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    raise UserError(f"plan: no recipe {name}", f"docs/recipes has {', '.join(known)}", "give one of them, or a file")


def make_device(
    kind: str, n_devices: int, *, tflops: float | None = None, memory_gb: float | None = None, mfu: float | None = None
) -> Device:
    """Return a device of a kind; the given numbers override those of the kind. Raises: `UserError` for an invalid number."""
    for name, value in (("--tflops", tflops), ("--device-memory-gb", memory_gb), ("--mfu", mfu)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"plan: {name} must be above 0", str(value), "give a positive number")
    if mfu is not None and mfu > 1:
        raise UserError("plan: --mfu is a fraction of the peak", str(mfu), "give a number up to 1")
    if kind != "cpu":
        known_tflops, known_gb = DEVICES[kind]
        return Device(name=kind, tflops=tflops or known_tflops, memory_gb=memory_gb or known_gb, mfu=mfu or GPU_MFU)
    import torch  # takes a second, and a plan for GPUs does not need it

    from model.machine.hardware import find_compiler_problem, find_kernel_problem, has_fast_bf16

    cpu = torch.device("cpu")
    is_bf16, n_threads = has_fast_bf16(cpu), max(count_workers() // n_devices, 1)
    return Device(
        name="cpu",
        tflops=tflops or measure_peak(cpu, is_bf16=is_bf16, n_threads=n_threads),
        memory_gb=memory_gb or psutil.virtual_memory().total / 1e9 / n_devices,
        mfu=mfu or CPU_MFU,
        compute="kernels" if is_bf16 and find_kernel_problem() is None else "torch",
        is_cuda=False,
        is_compiled=find_compiler_problem("cpu") is None,
        is_bf16=is_bf16,
    )


def measure_mfu(params: Params, device: Device, n_devices: int) -> Device:
    """Return the device with the MFU measured for pretraining on it. Raises: `UserError` if it is not this machine's CPU."""
    if device.is_cuda:
        raise UserError("plan: --measure works only on this machine's CPU", device.name, "give --mfu")
    config = make_config(params)
    training = complete_training(params.pretrain, config)
    rows, n_threads = training.batch_rows // n_devices, max(count_workers() // n_devices, 1)
    speed = measure_tokens_per_second(config, rows, training.micro_rows, n_threads)
    return replace(device, mfu=speed * config.count_flops_per_token() / (device.tflops * 1e12))


def measure_tokens_per_second(config: ModelConfig, rows: int, micro_rows: int, n_threads: int) -> float:
    """Return the speed of the fastest of a few real steps on random tokens, in one process with `n_threads` threads. Other
    processes would also use some of the machine's memory bandwidth."""
    import torch

    from model.data.batches import Batch
    from model.network.transformer import Transformer
    from model.training.loop import TrainSettings, train

    class RandomBatches:
        """Yields the same random rows at every step."""

        n_rows = batch_rows = rows
        tokens = torch.randint(
            0, config.vocab_size, (rows, config.seq_len + 1), generator=torch.Generator().manual_seed(0)
        )

        def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
            return Batch(self.tokens[:, :-1], self.tokens[:, 1:])

    settings = TrainSettings(total_steps=PROBE_STEPS, micro_rows=micro_rows, checkpoint_every_seconds=0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            history = train(Transformer(config), RandomBatches(), settings=settings, checkpoints=Path(folder))
    finally:
        torch.set_num_threads(before)
    return max(record.tokens_per_second for record in history)


def make_config(params: Params) -> ModelConfig:
    """Return the model's sizes; a character vocabulary may turn out smaller than its setting."""
    return ModelConfig(vocab_size=params.train_tokenizer.vocab_size, **params.pretrain.model.model_dump())


def make_plan(
    params: Params,
    device: Device,
    n_devices: int,
    *,
    is_sharded: bool = False,
    activation_checkpointing: Checkpointing = "none",
) -> dict[str, Any]:
    """Return the plan: flat numbers, and one dict per phase under `phases`."""
    config = make_config(params)
    computation = {name: getattr(device, name) for name in ("compute", "is_cuda", "is_compiled", "is_bf16")}
    phases: dict[str, dict[str, Any]] = {}
    pretraining = complete_training(params.pretrain, config)
    stages = list_stages(
        params.pretrain.data.growth,
        seq_len=config.seq_len,
        n_steps=pretraining.total_steps,
        batch_rows=pretraining.batch_rows,
    )
    n_drawn = sum(n_steps * n_rows for n_steps, n_rows, _ in stages)
    for stage, training, n_rows in (("pretrain", pretraining, n_drawn), ("sft", params.sft.training, None)):
        run = PhaseRun(
            n_rows=n_rows,
            config=config,
            n_devices=n_devices,
            is_sharded=is_sharded,
            masks_documents=stage == "sft",
            activation_checkpointing=activation_checkpointing,
            **{name: getattr(training, name) for name in ("total_steps", "batch_rows", "micro_rows")},
            **computation,
        )
        phases[stage] = _plan_phase(run, device)
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
        "flops_per_token": config.count_flops_per_token(),
        "compute_optimal_tokens": COMPUTE_OPTIMAL_TOKENS_PER_PARAMETER * config.n_parameters,
        "phases": phases,
        "hours": sum(phase["hours"] for phase in phases.values()),
        "device_memory_bytes": round(device.memory_gb * 1e9),
        "fits": peak <= device.memory_gb * 1e9,
    }


def _plan_phase(run: PhaseRun, device: Device) -> dict[str, Any]:
    """Return the numbers of one phase."""
    seconds = run.estimate_seconds(device.tflops, device.mfu)
    return {
        "steps": run.total_steps,
        "batch_rows": run.batch_rows,
        "batch_tokens": run.step_tokens,
        "micro_rows": run.rows_at_once,
        "tokens": run.tokens,
        "tokens_per_parameter": run.tokens / run.config.n_parameters,
        "flops": run.flops,
        "bytes": asdict(plan_memory(run)),
        "tokens_per_second": run.tokens / seconds,
        "hours": seconds / 3600,
    }


def print_plan(plan: dict[str, Any], console: Console) -> None:
    """Print the plan as a table with one column per phase."""
    table = Table(
        "", title=f"{Path(plan['recipe']).stem} on {plan['devices']} × {plan['device']}", title_justify="left"
    )
    phases = list(plan["phases"].values())
    for stage in plan["phases"]:
        table.add_column(stage, justify="right")
    table.add_row("parameters", *[short(plan["n_params"])] * len(phases))
    table.add_row("steps × tokens", *(f"{phase['steps']} × {short(phase['batch_tokens'])}" for phase in phases))
    table.add_row("tokens", *(short(phase["tokens"]) for phase in phases))
    table.add_row("tokens per parameter", *(f"{phase['tokens_per_parameter']:.3g}" for phase in phases))
    table.add_row("FLOPs", *(f"{phase['flops']:.2e}" for phase in phases))
    table.add_row(f"tokens/s at {plan['mfu']:.0%} MFU", *(short(phase["tokens_per_second"]) for phase in phases))
    table.add_row("time", *(clock(phase["hours"] * 3600) for phase in phases), end_section=True)
    for kind in phases[0]["bytes"]:
        row = (format_gigabytes(phase["bytes"][kind]) for phase in phases)
        table.add_row(f"{kind} per device", *row, end_section=kind == "update")
    console.print(table)
    fits = (
        "fits"
        if plan["fits"]
        else "does not fit: lower micro_rows, use activation checkpointing, or choose larger devices"
    )
    how = f"sharding: {plan['sharding']}, activation checkpointing: {plan['activation_checkpointing']}"
    console.print(f"memory: {format_gigabytes(plan['device_memory_bytes'])} on each device, {fits} ({how})")
    speed = f"{plan['tflops']:.3g} TFLOP/s per device and {plan['mfu']:.0%} MFU"
    console.print(f"total time: {clock(plan['hours'] * 3600)} at {speed}")
    if "cost" in plan:
        console.print(f"cost: {plan['cost']:,.2f}")


def format_gigabytes(n_bytes: int) -> str:
    """Format a size: 1234567890 → '1.23 GB'."""
    return f"{n_bytes / 1e9:.3g} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.3g} MB"
