"""Collective operations over the processes of a run. Only this module and model.training.shard* import torch.distributed.

In: torchrun's environment variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT). Out: a World.
Gradients are summed, not averaged, over ranks: each rank first divides its nats by the global number of targets, so that
2 ranks = 1 rank however the targets are distributed. Memory: one flat copy of a bucket of gradients (64 MiB) at a time.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 64 * 2**20
SHARDINGS = ("none", "full")


@dataclass(frozen=True)
class World:
    """One process's view of the process group. The default is a single process on the CPU, for which every method is free.

    `is_sharded`: each rank holds its part of weights, gradients and state (model.training.sharding); else each rank holds all.
    """

    rank: int = 0
    n_ranks: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    is_sharded: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, rank 0."""
        return self.rank == 0

    def sum(self, *values: float) -> tuple[float, ...]:
        """Return each value summed over the ranks, in fp64."""
        if self.n_ranks == 1:
            return values
        # NCCL sums on the GPU, gloo on the CPU; fp64 holds counts up to 2^53 exactly.
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tuple(tensor.tolist())

    def sum_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Sum tensors over the ranks in place, in buckets: one all-reduce per 64 MiB instead of one per tensor."""
        if self.n_ranks == 1:
            return
        for bucket in _group_into_buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """Return the values of the main process on every rank."""
        if self.n_ranks == 1:
            return list(values)
        (length,) = self.sum(len(values) if self.is_main else 0.0)
        return list(self.sum(*(values if self.is_main else [0.0] * int(length)))) if length else []

    def exchange(self, parts: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
        """Send `parts[r]` to rank r. Return what each rank sent here, flat, `sizes[r]` values from rank r."""
        sent = torch.cat([part.reshape(-1) for part in parts])
        received = sent.new_empty(sum(sizes))
        dist.all_to_all_single(received, sent, list(sizes), [part.numel() for part in parts])
        return list(received.split(list(sizes)))

    def barrier(self) -> None:
        """Wait until all ranks have reached this point."""
        if self.n_ranks > 1:
            dist.barrier()


def get_local(tensor: Any) -> Tensor:
    """Return this rank's rows of a sharded tensor, in the same memory; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # a DTensor, whose import takes half a second


def gather_whole(tensor: Any) -> Tensor:
    """Gather a sharded tensor on every rank; return any other tensor as it is. All ranks must call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def count_rows_by_rank(n_rows: int, n_ranks: int) -> list[int]:
    """Return how many rows of a matrix each rank holds. As with torch.chunk, the last ranks may hold fewer or none."""
    most = -(-n_rows // n_ranks)
    return [max(min(most, n_rows - rank * most), 0) for rank in range(n_ranks)]


def _group_into_buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield runs of tensors of one dtype with at most `BUCKET_BYTES` each, or a single larger tensor."""
    bucket: list[Tensor] = []
    n_bytes = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if bucket and (n_bytes + size > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, n_bytes = [], 0
        bucket.append(tensor)
        n_bytes += size
    if bucket:
        yield bucket


@contextmanager
def connect(device: str = "auto", *, sharding: str = "none", timeout_seconds: float = 600.0) -> Generator[World]:
    """Yield the World of torchrun's environment, or of one process without it; destroy the process group at the end.

    `device` is auto (the GPU if there is one), cpu or cuda; `sharding` is none or full, and has no effect in a single process.
    Raises: ValueError for unknown values, or if the ranks have different values of `sharding`.
    """
    if sharding not in SHARDINGS:
        raise ValueError(f"sharding must be none or full, got {sharding!r}")
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ValueError("device cuda needs a GPU: torch can't use one here; choose cpu or auto")
    use_gpu = has_gpu and device != "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    torch_device = torch.device("cuda", local_rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(torch_device)
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks == 1:
        yield World(device=torch_device)
        return
    if not use_gpu:  # torchrun gives each process one thread, however many cores there are
        n_local = int(os.environ.get("LOCAL_WORLD_SIZE", str(n_ranks)))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_local))
    backend = "nccl" if use_gpu else "gloo"
    dist.init_process_group(
        backend, timeout=timedelta(seconds=timeout_seconds), device_id=torch_device if use_gpu else None
    )
    try:
        world = World(rank=dist.get_rank(), n_ranks=n_ranks, device=torch_device, is_sharded=sharding == "full")
        (n_sharded,) = world.sum(float(world.is_sharded))
        if n_sharded not in (0, n_ranks):
            raise ValueError(
                f"sharding differs between processes: full in {int(n_sharded)} of {n_ranks}; give all machines the same value"
            )
        yield world
    finally:
        dist.destroy_process_group()
