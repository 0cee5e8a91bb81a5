"""Checkpoints of sharded runs: each rank writes and reads its own rows (torch.distributed.checkpoint, in its safetensors form).

In: tensors of which each rank holds rows. Out: the same folder as model.training.checkpoints's, with one `shard-0000N-….safetensors` for each
rank in place of its two files, weights and state together; their offsets stand in each file's header, so no pickled index is
needed. The same promises: all files are synced and hashed before the main process gives the folder its name, and a folder with
the right name is whole. Read by any number of ranks, sharded or not. Memory: one copy of a rank's part. All machines have to see
one folder.
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
    """Of all ranks together. Steps as in model.training.checkpoints.save_checkpoint."""
    if world.is_main:
        begin_checkpoint(folder, checkpoint.step)
    world.barrier()
    unfinished = get_unfinished_folder(folder, checkpoint.step)
    writer = HuggingFaceStorageWriter(str(unfinished), save_distributed=True)
    with unwrap_errors():
        save({**checkpoint.model, **checkpoint.optimizer}, storage_writer=writer)
    names = sorted(path.name for path in unfinished.glob(f"shard-{world.rank + 1:05d}-*"))
    assert len(names) <= 1, names  # a rank may hold no row of anything
    digest = bytes.fromhex(sync_and_hash(unfinished / names[0])) if names else bytes(DIGEST_BYTES)
    digests = [0.0] * DIGEST_BYTES * world.n_ranks
    digests[world.rank * DIGEST_BYTES : (world.rank + 1) * DIGEST_BYTES] = list(digest)
    n_written, *gathered = (int(value) for value in world.sum(len(names), *digests))
    if world.is_main:
        finish_checkpoint(unfinished, checkpoint, name_digests(unfinished, bytes(gathered), n_written), policy)
    world.barrier()  # nobody is ahead of a checkpoint that may still fail


@contextmanager
def unwrap_errors() -> Generator[None]:
    """What went wrong in some rank as itself (a full disk, a Ctrl-C) and not wrapped in an exception that nobody waits for."""
    try:
        yield
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        raise next((cause for cause in causes if isinstance(cause, KeyboardInterrupt)), causes[0]) from None


def name_digests(folder: Path, digests: bytes, n_written: int) -> dict[str, str]:
    """Of each rank's file; `digests` has one after the other, by rank. Raises: ValueError where one wrote into another folder."""
    names = sorted(path.name for path in folder.glob("shard-*"))
    if len(names) != n_written:
        raise ValueError(
            f"a checkpoint needs a folder that all machines share; found {len(names)} of the {n_written} files that the processes "
            f"wrote to {folder}; keep scratch/ on a shared file system."
        )
    ranks = [int(name[6:11]) - 1 for name in names]
    return {
        name: digests[rank * DIGEST_BYTES : (rank + 1) * DIGEST_BYTES].hex()
        for name, rank in zip(names, ranks, strict=True)
    }


def make_reader(like: Mapping[str, Tensor]) -> Read:
    """Reads the rows that this rank holds of these weights, and of their state: as many ranks as there are, whoever wrote."""
    return partial(_read_rows, like)


def _read_rows(like: Mapping[str, Tensor], path: Path) -> Tensors:
    tensors: Tensors = {}
    for name, (size, dtype) in _read_metadata(path).items():
        kind, _, of = name.partition(".")
        whose = of if is_optimizer_state(name) else name
        if whose not in like or (kind != "step" and size != like[whose].shape):
            raise ValueError(f"{name} of shape {tuple(size)} is of another model")
        tensors[name] = torch.empty(size, dtype=dtype) if kind == "step" else torch.empty_like(like[whose], dtype=dtype)
    return _read(tensors, path)


def read_whole(path: Path) -> Tensors:
    """Every tensor, in this process alone."""
    return _read({name: torch.empty(size, dtype=dtype) for name, (size, dtype) in _read_metadata(path).items()}, path)


def _read_metadata(path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    found = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    return {name: (each.size, each.properties.dtype) for name, each in found.items()}  # pyright: ignore[reportAttributeAccessIssue]


def _read(tensors: Tensors, path: Path) -> Tensors:
    with warnings.catch_warnings(), unwrap_errors():
        # Each reads for itself: that is meant.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    return tensors
