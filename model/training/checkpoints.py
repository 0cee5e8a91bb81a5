"""Checkpoints of a run in progress, as safetensors and JSON: no pickles.

In: tensors and plain values. Out: `step-00000123/` with model.safetensors, optimizer.safetensors and state.json, which holds
the step, the history, the skipped batches and the sha256 of both files. A checkpoint is written to a temporary folder, synced and
then renamed, so a folder with the final name is complete. Memory: one copy of the tensors of one file at a time. Sharded weights:
model.training.sharded_checkpoint.

Covers: kill -9 and power loss at any moment, bytes flipped later (the previous checkpoint is used). Does not cover: two runs
writing to the same folder at once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.machine.distributed import World
from model.network.hashes import hash_file

Tensors = dict[str, Tensor]
Read = Callable[[Path], Tensors]  # returns all tensors of a checkpoint by name
STATE_KINDS = ("momentum", "exp_avg", "exp_avg_sq", "step")  # prefixes of the optimizer's tensor names


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps. `fingerprint` identifies the run: a checkpoint of another run is not loaded."""

    step: int
    model: Tensors
    optimizer: Tensors
    fingerprint: str = ""
    history: Sequence[Mapping[str, Any]] = field(default_factory=list)
    events: Sequence[Mapping[str, Any]] = field(default_factory=list)  # skipped batches, with the reason


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """Which checkpoints to keep: the `last` newest ones, one every `every` steps (0 = none) and the one of `best_step`; and for
    rollbacks the newest one that is at least `back_steps` behind, plus the one that will replace it."""

    last: int = 2
    every: int = 0
    best_step: int = -1
    back_steps: int = 0

    def choose_kept(self, steps: Iterable[int]) -> set[int]:
        """Return the steps to keep, given the steps of all checkpoints, the last of which was just written."""
        ordered = sorted(steps)
        limit = max(ordered[-1] - self.back_steps, 0)
        behind, after = ([step for step in ordered if (step <= limit) == is_behind] for is_behind in (True, False))
        regular = {step for step in ordered if self.every and step % self.every == 0}
        return {*ordered[-self.last :], *behind[-1:], *after[:1], *regular, *({self.best_step} & set(ordered))}


def save_checkpoint(folder: Path, checkpoint: Checkpoint, policy: RetentionPolicy | None = None) -> Path:
    """Write a checkpoint and return its folder. Once it is on disk, delete those that the policy does not keep and those of later
    steps, which a rollback has invalidated."""
    unfinished = begin_checkpoint(folder, checkpoint.step)
    parts = {"model.safetensors": checkpoint.model, "optimizer.safetensors": checkpoint.optimizer}
    for name, tensors in parts.items():
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, unfinished / name)
    return finish_checkpoint(
        unfinished, checkpoint, {name: sync_and_hash(unfinished / name) for name in parts}, policy or RetentionPolicy()
    )


def begin_checkpoint(folder: Path, step: int) -> Path:
    """Create an empty folder for the tensors of a new checkpoint and delete what a killed run left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("unfinished-*"):
        shutil.rmtree(leftover)
    unfinished = get_unfinished_folder(folder, step)
    unfinished.mkdir()
    return unfinished


def get_unfinished_folder(folder: Path, step: int) -> Path:
    """Return the temporary folder that the checkpoint of a step is written to."""
    return folder / f"unfinished-{step:08d}"


def sync_and_hash(path: Path) -> str:
    """Flush a file to disk and return its sha256."""
    _sync(path)
    return hash_file(path)


def finish_checkpoint(
    unfinished: Path, checkpoint: Checkpoint, sha256: Mapping[str, str], policy: RetentionPolicy
) -> Path:
    """Write state.json beside the tensors, which are already on disk; then rename the folder, which makes it a checkpoint."""
    folder = unfinished.parent
    state = {
        "step": checkpoint.step,
        "fingerprint": checkpoint.fingerprint,
        "sha256": dict(sha256),
        "history": list(checkpoint.history),
        "events": list(checkpoint.events),
    }
    (unfinished / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for path in (unfinished / "state.json", unfinished):
        _sync(path)
    final = folder / f"step-{checkpoint.step:08d}"
    if final.exists():
        shutil.rmtree(final)
    unfinished.rename(final)
    _sync(folder)
    existing = {_parse_step(path): path for path in folder.glob("step-*")}
    kept = policy.choose_kept(step for step in existing if step <= checkpoint.step)
    for step in existing.keys() - kept:
        shutil.rmtree(existing[step])
    return final


def _parse_step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def load_newest(
    folder: Path,
    *,
    fingerprint: str,
    on_message: Callable[[str], None],
    up_to: int | None = None,
    world: World | None = None,
    read: Read | None = None,
) -> Checkpoint | None:
    """Return the newest intact checkpoint of this run (of at most `up_to` steps), or None. Damaged checkpoints and those of other
    runs are reported and skipped. All ranks load the same one: they use the main process's list, share the hashing, and continue
    once every rank has read it."""
    world, read = world or World(), read or read_tensors
    steps = [_parse_step(path) for path in folder.glob("step-*")] if folder.is_dir() else []
    for step in sorted((int(step) for step in world.broadcast(steps) if up_to is None or step <= up_to), reverse=True):
        name = f"step-{step:08d}"
        try:
            checkpoint = _load(folder / name, world, read)
        except (ValueError, KeyError, OSError, SafetensorError) as error:
            on_message(f"checkpoint {name} is damaged ({error}); trying the previous one")
            continue
        if checkpoint.fingerprint == fingerprint:
            return checkpoint
        on_message(f"checkpoint {name} belongs to a run with other settings; ignoring it")
    return None


def _load(path: Path, world: World, read: Read) -> Checkpoint:
    """Read and verify a checkpoint. An error on any rank raises on all ranks."""
    state: dict[str, Any] = {}
    with _fail_together(world, path):
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    files = sorted(state["sha256"].items())
    is_damaged = [0.0] * len(files)
    for index in range(world.rank, len(files), world.n_ranks):
        name, expected = files[index]
        is_damaged[index] = float(not (path / name).is_file() or hash_file(path / name) != expected)
    for (name, _), n_mismatches in zip(files, world.sum(*is_damaged), strict=True):
        if n_mismatches:
            raise ValueError(f"{name} does not have the sha256 recorded in state.json")
    tensors: Tensors = {}
    with _fail_together(world, path):
        tensors = read(path)
    model, optimizer = (
        {key: t for key, t in tensors.items() if is_optimizer_state(key) == wanted} for wanted in (False, True)
    )
    return Checkpoint(state["step"], model, optimizer, state["fingerprint"], state["history"], state["events"])


@contextmanager
def _fail_together(world: World, path: Path) -> Generator[None]:
    """Raise on every rank if the body raises on any of them."""
    problem: Exception | None = None
    try:
        yield
    except (ValueError, KeyError, OSError, SafetensorError) as error:
        problem = error
    (n_failed,) = world.sum(float(problem is not None))
    if problem is not None:
        raise problem
    if n_failed:
        raise ValueError(f"{int(n_failed)} other process(es) can't read {path}: do all machines share this folder?")


def read_tensors(path: Path) -> Tensors:
    """Read all tensors of a checkpoint that was saved whole (of a sharded one: sharded_checkpoint.read_whole)."""
    return load_file(path / "model.safetensors") | load_file(path / "optimizer.safetensors")


def is_optimizer_state(name: str) -> bool:
    """Return whether a tensor belongs to the optimizer's state; no weight has such a name."""
    return name.partition(".")[0] in STATE_KINDS


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
