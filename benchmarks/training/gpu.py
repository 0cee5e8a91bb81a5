"""Training on one GPU: the share of its bf16 peak (MFU) that real optimizer steps on random tokens reach, at 124 M and 1.0 B
parameters.

Peers run too where their checkouts are named: python -m benchmarks gpu --nanochat PATH --torchtitan PATH. MFU is counted as
they count it, the attention in full (PaLM, Chowdhery et al. 2022, appendix B); beside it stands the one with its causal half, which
is what the work takes. Memory is the most that torch's allocator had given out, beside the plan's. Nothing runs without a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_peers import PeerSpeed, nanochat, torchtitan
from benchmarks.measure import Result
from model.batches import Batch
from model.config import ModelConfig
from model.distributed import World
from model.plan import Run, memory
from model.train import StepRecord, TrainSettings, train
from model.transformer import Transformer
from pipeline.peak import peak_tflops

WARM_STEPS, STEPS = 4, 8
SMALL = ModelConfig(
    vocab_size=50304, seq_len=1024, n_layer=12, n_head=12, n_kv_head=12, d_model=768, d_head=64, d_ff=2048
)  # docs/recipes/gpt2-small-124m.yaml
LARGE = ModelConfig(
    vocab_size=50304, seq_len=2048, n_layer=18, n_head=16, n_kv_head=16, d_model=2048, d_head=128, d_ff=5632
)
# What their authors report: who, which model, where, MFU in percent (attention in full).
PUBLISHED = (
    ("nanochat", "12 layers", "H100", "41"),
    ("nanochat", "18 layers", "H100", "46"),
    ("torchtitan", "8B, compiled", "8 H100", "33 to 39"),
    ("litgpt", "1.1B TinyLlama", "A100", "52"),
)


@dataclass(frozen=True)
class Work:
    """A model, and how many rows of it make a step."""

    name: str
    config: ModelConfig
    batch_rows: int
    micro_rows: int


WORKS = (Work("124M", SMALL, 512, 64), Work("1.0B", LARGE, 128, 8))


@dataclass(frozen=True)
class Checkouts:
    """Of the peers, as far as they were given."""

    nanochat: Path | None = None
    torchtitan: Path | None = None


@dataclass(frozen=True)
class Speed:
    tokens_per_second: float
    memory_bytes: int
    planned_bytes: int


def run(*, nanochat: Path | None = None, torchtitan: Path | None = None) -> Result | None:
    """MFU of the larger model in percent, beside the best peer that was run; None without a GPU."""
    if not torch.cuda.is_available():
        print("gpu: not measured, because torch finds no CUDA GPU here")
        return None
    return compare(WORKS, torch.device("cuda"), checkouts=Checkouts(nanochat, torchtitan))


def compare(
    works: tuple[Work, ...], device: torch.device, *, steps: int = STEPS, checkouts: Checkouts | None = None
) -> Result:
    """Prints a table; the last of the works is the claim."""
    peak, name = peak_tflops(device)
    table = Table(title=f"{name}: {peak:.3g} TFLOP/s dense bf16", title_justify="left")
    for head in ("model", "who", "tokens/s", "MFU %", "causal MFU %", "GB", "GB planned"):
        table.add_column(head, justify="left" if head in ("model", "who") else "right")
    ours, best, best_name = 0.0, None, ""
    for work in works:
        speed = ours_on(work, device, steps=steps)
        full, causal = (mfu(speed.tokens_per_second, flops, peak) for flops in flops_per_token(work.config))
        sizes = (f"{speed.memory_bytes / 1e9:.1f}", f"{speed.planned_bytes / 1e9:.1f}")
        table.add_row(work.name, "ours", f"{speed.tokens_per_second:,.0f}", f"{full:.1f}", f"{causal:.1f}", *sizes)
        ours, best, best_name = full, None, ""
        for peer in peers_on(work, device, steps, checkouts or Checkouts()):
            theirs = mfu(peer.tokens_per_second, peer.flops_per_token, peak)
            size = f"{peer.memory_bytes / 1e9:.1f}"
            table.add_row(work.name, peer.name, f"{peer.tokens_per_second:,.0f}", f"{theirs:.1f}", "", size, "")
            if best is None or theirs > best:
                best, best_name = theirs, peer.name
    for who, model, where, share in PUBLISHED:
        table.add_row(model, f"{who}, published, {where}", "", share, "", "", "")
    Console(width=120).print(table)
    work = f"{steps} steps of {works[-1].batch_rows} x {works[-1].config.seq_len} tokens, {works[-1].name} parameters, {name}"
    return Result(work, "% of the bf16 peak", ours, best, best_name)


def flops_per_token(config: ModelConfig) -> tuple[int, int]:
    """Of a training step, with the attention counted in full, and causal."""
    causal = config.flops_per_token()
    return causal + 6 * config.n_layer * config.n_head * config.d_head * config.seq_len, causal


def mfu(tokens_per_second: float, flops: float, peak: float) -> float:
    """In percent of `peak` TFLOP/s."""
    return 100 * tokens_per_second * flops / (peak * 1e12)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class RandomBatches:
    """Rows of random ids."""

    n_rows = 10_000_000

    def __init__(self, work: Work) -> None:
        self.work, self.batch_rows = work, work.batch_rows

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        config, generator = self.work.config, np.random.Generator(np.random.PCG64(step))
        ids = generator.integers(0, config.vocab_size, (self.batch_rows, config.seq_len + 1))
        tokens = torch.from_numpy(ids)
        return Batch(tokens[:, :-1], tokens[:, 1:])


class _EnoughError(Exception):
    """Ends a run before its last step, which would write a checkpoint of gigabytes."""


def ours_on(work: Work, device: torch.device, *, steps: int = STEPS) -> Speed:
    """The training loop as it is; the clock starts after the steps that compile."""
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
    let_go(device)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_EnoughError):
        train(
            Transformer(work.config),
            RandomBatches(work),
            settings=settings,
            checkpoints=Path(folder),
            on_step=on_step,
            on_message=lambda text: print(f"gpu: {text}"),
            world=World(device=device),
        )
    first, last = records[WARM_STEPS - 1], records[-1]
    plan = memory(
        Run(
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


def let_go(device: torch.device) -> None:
    """Of what an earlier run left on the GPU; compiled code keeps its model alive."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peers_on(work: Work, device: torch.device, steps: int, checkouts: Checkouts) -> list[PeerSpeed]:
    """Those whose checkouts are named, on as many tokens. A process of its own for each, so that ours has let go of its memory."""
    let_go(device)
    found: list[PeerSpeed] = []
    if checkouts.nanochat is not None:
        rows = (work.batch_rows, work.micro_rows)
        found.append(nanochat(checkouts.nanochat, work.config, *rows, device.type, WARM_STEPS, steps))
    if checkouts.torchtitan is not None and work.config.n_parameters > 5e8:  # its smallest real model has 1.2 B
        found.append(torchtitan(checkouts.torchtitan, work.micro_rows, work.config.seq_len, WARM_STEPS, steps))
    return found
