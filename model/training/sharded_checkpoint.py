"""Checkpoints of sharded runs: each rank writes and reads its own rows (torch.distributed.checkpoint with safetensors).

In: tensors whose rows are sharded over the ranks. Out: the same folder as that of model.training.checkpoints, with one
`shard-0000N-….safetensors` per rank instead of its two files, weights and optimizer state together; offsets are in the header of
each file, so no pickled index is needed. The guarantees are the same: all files are synced and hashed before the main process
renames the folder, and a folder with the final name is complete. It can be read by any number of ranks, sharded or not. Memory:
one copy of a rank's part. All machines must share the folder.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from model.machine.distributed import World
from model.training.checkpoints import (
    Checkpoint,
    Read,
    RetentionPolicy,
    Tensors,
    begin_checkpoint,
    finish_checkpoint,
    get_unfinished_folder,
    is_optimizer_state,
    sync_and_hash,
)

DIGEST_BYTES = 32


def save_sharded(folder: Path, checkpoint: Checkpoint, policy: RetentionPolicy, world: World) -> None:
    """Write a checkpoint, all ranks together, in the steps of model.training.checkpoints.save_checkpoint."""
    if world.is_main:
        begin_checkpoint(folder, checkpoint.step)
    world.barrier()
    unfinished = get_unfinished_folder(folder, checkpoint.step)
    writer = HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
    with unwrap_errors():
        save({**checkpoint.model, **checkpoint.optimizer}, storage_writer=writer)
    names = sorted(path.name for path in unfinished.glob(f"shard-{world.rank + 1:05d}-*"))
    assert len(names) <= 1, names  # a rank may hold no rows at all
    digest = bytes.fromhex(sync_and_hash(unfinished / names[0])) if names else bytes(DIGEST_BYTES)
    digests = [0.0] * DIGEST_BYTES * world.n_ranks
    digests[world.rank * DIGEST_BYTES : (world.rank + 1) * DIGEST_BYTES] = list(digest)
    n_written, *gathered = (int(value) for value in world.sum(len(names), *digests))
    if world.is_main:
        finish_checkpoint(unfinished, checkpoint, name_digests(unfinished, bytes(gathered), n_written), policy)
    world.barrier()  # no rank continues before the checkpoint is complete


@contextmanager
def unwrap_errors() -> Generator[None]:
    """Raise the original error of a rank (a full disk, a signal) instead of torch's CheckpointException around it."""
    try:
        yield
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        raise next((cause for cause in causes if not isinstance(cause, Exception)), causes[0]) from None


def name_digests(folder: Path, digests: bytes, n_written: int) -> dict[str, str]:
    """Return the sha256 of each rank's file by name; `digests` is their concatenation by rank. Raises: ValueError if a rank wrote
    to another folder."""
    names = sorted(path.name for path in folder.glob("shard-*"))
    if len(names) != n_written:
        raise ValueError(
            f"a checkpoint needs a folder that all machines share: {len(names)} of {n_written} files written to {folder} are "
            "visible here; put scratch/ on a shared file system"
        )
    ranks = [int(name[6:11]) - 1 for name in names]
    return {
        name: digests[rank * DIGEST_BYTES : (rank + 1) * DIGEST_BYTES].hex()
        for name, rank in zip(names, ranks, strict=True)
    }


def make_reader(like: Mapping[str, Tensor]) -> Read:
    """Return a function that reads this rank's rows of these weights and of their optimizer state, however many ranks wrote
    them."""
    return partial(_read_rows, like)


def _read_rows(like: Mapping[str, Tensor], path: Path) -> Tensors:
    tensors: Tensors = {}
    for name, (size, dtype) in _read_metadata(path).items():
        kind, _, of = name.partition(".")
        whose = of if is_optimizer_state(name) else name
        if whose not in like or (kind != "step" and size != like[whose].shape):
            raise ValueError(f"{name} of shape {tuple(size)} belongs to another model")
        tensors[name] = torch.empty(size, dtype=dtype) if kind == "step" else torch.empty_like(like[whose], dtype=dtype)
    return _read(tensors, path)


def read_whole(path: Path) -> Tensors:
    """Read every tensor as a whole, in this process alone."""
    return _read({name: torch.empty(size, dtype=dtype) for name, (size, dtype) in _read_metadata(path).items()}, path)


def _read_metadata(path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return the shape and dtype of each tensor in a checkpoint."""
    metadata = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    return {name: (each.size, each.properties.dtype) for name, each in metadata.items()}  # pyright: ignore[reportAttributeAccessIssue]


def _read(tensors: Tensors, path: Path) -> Tensors:
    with warnings.catch_warnings(), unwrap_errors():
        # Each rank reads by itself, on purpose.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    return tensors
