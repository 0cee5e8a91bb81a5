"""Training on one GPU: MFU of optimizer steps on random tokens, at 124 M and 1.0 B parameters, against nanochat and torchtitan.

Peers run if their checkouts are given: python -m benchmarks gpu --nanochat PATH --torchtitan PATH. MFU is counted as they count
it, with full attention (PaLM, Chowdhery et al. 2022, appendix B); causal MFU counts the causal half, which is the actual work.
Memory is the peak of torch's allocator, with the plan's estimate. Nothing runs without a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import Result, Row
from benchmarks.peers.gpu_peers import PeerSpeed, nanochat, torchtitan
from benchmarks.training.training_step import RandomBatches
from model.machine.distributed import World
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.planning.memory import PhaseRun, plan_memory
from model.training.loop import StepRecord, TrainSettings, train
from pipeline.training.peak import get_peak_tflops

WARM_STEPS, STEPS = 4, 8
SMALL = ModelConfig(
    vocab_size=50304, seq_len=1024, n_layer=12, n_head=12, n_kv_head=12, d_model=768, d_head=64, d_ff=2048
)  # docs/recipes/gpt2-small-124m.yaml
LARGE = ModelConfig(
    vocab_size=50304, seq_len=2048, n_layer=18, n_head=16, n_kv_head=16, d_model=2048, d_head=128, d_ff=5632
)
# What the authors report: project, model, hardware, MFU in percent (full attention).
PUBLISHED = (
    ("nanochat", "12 layers", "H100", "41"),
    ("nanochat", "18 layers", "H100", "46"),
    ("torchtitan", "8B, compiled", "8 H100", "33 to 39"),
    ("litgpt", "1.1B TinyLlama", "A100", "52"),
)


@dataclass(frozen=True)
class Work:
    """Describe a model and the rows of a step."""

    name: str
    config: ModelConfig
    batch_rows: int
    micro_rows: int


WORKS = (Work("124M", SMALL, 512, 64), Work("1.0B", LARGE, 128, 8))


@dataclass(frozen=True)
class Checkouts:
    """Hold the paths of the peers that were given."""

    nanochat: Path | None = None
    torchtitan: Path | None = None


@dataclass(frozen=True)
class Speed:
    """Hold what ours reached."""

    tokens_per_second: float
    memory_bytes: int
    planned_bytes: int


def run(*, nanochat: Path | None = None, torchtitan: Path | None = None) -> Result | None:
    """Return MFU of the larger model in percent and the best peer's; None without a GPU."""
    if not torch.cuda.is_available():
        print("gpu: not measured, because torch finds no CUDA GPU here")
        return None
    return compare(WORKS, torch.device("cuda"), checkouts=Checkouts(nanochat, torchtitan))


def compare(
    works: tuple[Work, ...], device: torch.device, *, steps: int = STEPS, checkouts: Checkouts | None = None
) -> Result:
    """Compare on every work; the last one is the claim, the details have all."""
    peak, name = get_peak_tflops(device)
    rows: list[dict[str, float | str | None]] = []
    ours, best = 0.0, None
    for work in works:
        speed = ours_on(work, device, steps=steps)
        full, causal = (mfu(speed.tokens_per_second, flops, peak) for flops in compute_flops_per_token(work.config))
        row = describe(work.name, "ours", speed.tokens_per_second, full, speed.memory_bytes)
        rows.append({**row, "causal MFU %": causal, "planned GB": speed.planned_bytes / 1e9})
        ours, best = full, None
        for peer in measure_peers(work, device, steps, checkouts or Checkouts()):
            theirs = mfu(peer.tokens_per_second, peer.flops_per_token, peak)
            rows.append(describe(work.name, peer.name, peer.tokens_per_second, theirs, peer.memory_bytes))
            best = max(best or (theirs, peer.name), (theirs, peer.name))
    rows += [describe(model, f"{who}, published, {where}", None, share, None) for who, model, where, share in PUBLISHED]
    config, size = works[-1].config, f"{name}, {peak:.3g} TFLOP/s dense bf16"
    work = f"{steps} steps of {works[-1].batch_rows} x {config.seq_len} tokens, {works[-1].name} parameters, {size}"
    peer_mfu, peer_name = best or (None, "")
    details: list[Row] = [*rows]
    return Result(work, "% of the bf16 peak", ours, peer_mfu, peer_name, details=details)


def describe(
    model: str, who: str, tokens_per_second: float | None, full_mfu: float | str, memory_bytes: int | None
) -> dict[str, float | str | None]:
    """Return a row of the details."""
    memory_gb = None if memory_bytes is None else memory_bytes / 1e9
    row: dict[str, float | str | None] = {"model": model, "who": who, "tokens/s": tokens_per_second, "MFU %": full_mfu}
    return {**row, "causal MFU %": None, "GB": memory_gb, "planned GB": None}


def compute_flops_per_token(config: ModelConfig) -> tuple[int, int]:
    """Return FLOPs per token of a training step, with full and with causal attention."""
    causal = config.count_flops_per_token()
    return causal + 6 * config.n_layer * config.n_head * config.d_head * config.seq_len, causal


def mfu(tokens_per_second: float, flops: float, peak: float) -> float:
    """Return MFU in percent of `peak` TFLOP/s."""
    return 100 * tokens_per_second * flops / (peak * 1e12)


class _EnoughError(Exception):
    """End a run before its last step, which would write a checkpoint of gigabytes."""


def ours_on(work: Work, device: torch.device, *, steps: int = STEPS) -> Speed:
    """Run the training loop; time starts after the steps that compile."""
    records: list[StepRecord] = []

    def on_step(record: StepRecord) -> None:
        records.append(record)
        if len(records) == WARM_STEPS + steps:
            raise _EnoughError

    settings = TrainSettings(
        total_steps=WARM_STEPS + steps + 1,
        micro_rows=work.micro_rows,
        precision="bf16",
        use_kernels=False,
        use_compile=device.type == "cuda",
        checkpoint_every_seconds=0,
    )
    free_memory(device)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_EnoughError):
        train(
            Transformer(work.config),
            RandomBatches(work.config, work.batch_rows),
            settings=settings,
            checkpoints=Path(folder),
            on_step=on_step,
            on_message=lambda text: print(f"gpu: {text}"),
            world=World(device=device),
        )
    first, last = records[WARM_STEPS - 1], records[-1]
    plan = plan_memory(
        PhaseRun(
            config=work.config,
            total_steps=1,
            batch_rows=work.batch_rows,
            micro_rows=work.micro_rows,
            is_cuda=device.type == "cuda",
            is_compiled=settings.use_compile,
        )
    )
    taken = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Speed((last.tokens - first.tokens) / (last.seconds - first.seconds), taken, plan.peak)


def free_memory(device: torch.device) -> None:
    """Free what an earlier run left on the GPU; compiled code keeps its model alive."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def measure_peers(work: Work, device: torch.device, steps: int, checkouts: Checkouts) -> list[PeerSpeed]:
    """Run the peers whose checkouts were given, on as many tokens, each in its own process after ours has freed its memory."""
    free_memory(device)
    found: list[PeerSpeed] = []
    if checkouts.nanochat is not None:
        rows = (work.batch_rows, work.micro_rows)
        found.append(nanochat(checkouts.nanochat, work.config, *rows, device.type, WARM_STEPS, steps))
    if checkouts.torchtitan is not None and work.config.n_parameters > 5e8:  # its smallest real model has 1.2 B
        found.append(torchtitan(checkouts.torchtitan, work.micro_rows, work.config.seq_len, WARM_STEPS, steps))
    return found
