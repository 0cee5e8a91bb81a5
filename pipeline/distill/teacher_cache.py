"""Keep a teacher's top-k distributions over the next token of every target of a run on disk, in Arrow files of some steps each.

In: a teacher, the run's batches. Out: files of one record batch per step and one row per target: `ids` (uint16, or uint32 for a
larger vocabulary) and `log_probs` (fp16) as lists of k values; fp16 rounds a log-probability by at most 0.05 %. Disk: 4 bytes (6)
per target and k, known before the first one is computed; more than distill.max_cache_mb is refused.

A file is written under another name, flushed, and renamed, and its sha256 is in a file beside it; a run that is started again
computes what is missing or has another sha256, and keeps the rest. Processes share the files. Memory: one step.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.data.batches import Batch, Batches
from model.network.loss import IGNORE
from model.network.soft_targets import SoftTargets
from pipeline.frame.errors import UserError
from pipeline.storage.arrow import map_batches, write_batches

FILE_STEPS = 50  # a killed run loses at most so many
CHUNK_TOKENS = 512  # of logits at once


class Teacher(Protocol):
    """What computes a teacher's hidden states; the implementations are in model.training.compute."""

    def compute_hidden(self, batch: Batch) -> Float[Tensor, "N D"]: ...


def count_targets(batches: Batches, n_steps: int) -> int:
    """Return the number of targets of a run."""
    return sum(int((batches.at(step).targets != IGNORE).sum()) for step in range(n_steps))


def check_cache_size(n_targets: int, k: int, vocab_size: int, max_mb: int) -> int:
    """Return the bytes that the cache takes. Raises: `UserError` if they exceed the limit, or for more tokens than there are."""
    if k > vocab_size:
        raise UserError(
            "distill.top_k exceeds the teacher's vocabulary", f"{k} of {vocab_size} tokens", f"set at most {vocab_size}"
        )
    n_bytes = n_targets * k * (4 if vocab_size <= 1 << 16 else 6)
    if n_bytes > max_mb * 1_000_000:
        raise UserError(
            "distill.max_cache_mb: the teacher's distributions take more disk",
            f"{n_targets:,} targets × top_k {k} = {n_bytes / 1e6:,.0f} MB, max_cache_mb = {max_mb}",
            "raise it, or lower top_k or the number of steps",
        )
    return n_bytes


def find_top_tokens(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], k: int, temperature: float
) -> tuple[Int[Tensor, "N K"], Float[Tensor, "N K"]]:
    """Return the k most likely tokens after each hidden state, and their log-probabilities at a temperature."""
    ids, log_probs = [], []
    for part in hidden.split(CHUNK_TOKENS):
        logits = part.float() @ weight.float().T / temperature
        values, tokens = logits.topk(k)
        ids.append(tokens)
        log_probs.append(values - logits.logsumexp(-1, keepdim=True))
    return torch.cat(ids), torch.cat(log_probs)


class TeacherCache:
    """The distributions of the steps 0 … `n_steps` in a folder. Raises: `UserError` in `read` for a file that has changed."""

    def __init__(self, folder: Path, n_steps: int, k: int, vocab_size: int) -> None:
        self.folder, self.n_steps, self.k = folder, n_steps, k
        ids = pa.uint16() if vocab_size <= 1 << 16 else pa.uint32()
        self._schema = pa.schema([("ids", pa.list_(ids, k)), ("log_probs", pa.list_(pa.float16(), k))])
        self._open: tuple[int, pa.RecordBatchFileReader] | None = None

    def build(
        self, batches: Batches, teacher: Teacher, weight: Tensor, temperature: float, share: Sequence[range]
    ) -> Iterator[int]:
        """Compute those files of a `share` that are missing or damaged. Yield the number of steps of each when it is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for steps in share:
            number = steps.start // FILE_STEPS
            if not self._is_whole(number):
                self._write(number, self._compute(steps, batches, teacher, weight, temperature))
            yield len(steps)

    def list_share(self, rank: int, n_ranks: int) -> list[range]:
        """Return the steps of every file that a process computes."""
        starts = range(0, self.n_steps, FILE_STEPS)
        return [range(start, min(start + FILE_STEPS, self.n_steps)) for start in starts[rank::n_ranks]]

    def read(self, step: int, targets: Int[Tensor, "B T"], share: float, temperature: float) -> SoftTargets:
        """Return the soft targets of a step. Raises: `UserError` for a damaged file."""
        number, position = divmod(step, FILE_STEPS)
        if self._open is None or self._open[0] != number:
            self._open = number, self._open_file(number)
        batch = self._open[1].get_batch(position)
        rows = (targets.reshape(-1) != IGNORE).nonzero()[:, 0]
        if batch.num_rows != len(rows):
            raise self._explain(number, f"{batch.num_rows} targets in step {step}, which has {len(rows)}")
        ids = torch.zeros(targets.numel(), self.k, dtype=torch.int64)
        log_probs = torch.zeros(targets.numel(), self.k)
        ids[rows], log_probs[rows] = (
            torch.from_numpy(batch.column(name).flatten().to_numpy().reshape(-1, self.k).astype(dtype))
            for name, dtype in (("ids", np.int64), ("log_probs", np.float32))
        )
        shape = (*targets.shape, self.k)
        return SoftTargets(ids.view(shape), log_probs.view(shape), share, temperature)

    def _compute(
        self, steps: range, batches: Batches, teacher: Teacher, weight: Tensor, temperature: float
    ) -> Iterator[pa.RecordBatch]:
        for step in steps:
            batch = batches.at(step)
            rows = (batch.targets.reshape(-1) != IGNORE).nonzero()[:, 0]
            hidden = teacher.compute_hidden(batch)
            ids, log_probs = find_top_tokens(hidden[rows.to(hidden.device)], weight, self.k, temperature)
            arrays = (ids.cpu().numpy(), log_probs.cpu().numpy().astype(np.float16))
            columns = [
                pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)).cast(field.type.value_type), self.k)
                for array, field in zip(arrays, self._schema, strict=True)
            ]
            yield pa.record_batch(columns, schema=self._schema)

    def _write(self, number: int, steps: Iterator[pa.RecordBatch]) -> None:
        """Write a file and its sha256, each whole or not at all."""
        path = self._get_path(number)
        partial = path.with_suffix(".partial")
        write_batches(partial, self._schema, steps)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        partial.rename(path)
        partial.write_text(digest, encoding="ascii")
        partial.rename(path.with_suffix(".sha256"))

    def _is_whole(self, number: int) -> bool:
        """Return whether there is a file with the sha256 that it was written with."""
        digest = self._get_path(number).with_suffix(".sha256")
        return digest.is_file() and digest.read_text(encoding="ascii") == self._hash(number)

    def _hash(self, number: int) -> str:
        """Return the sha256 of a file; empty if there is none."""
        path = self._get_path(number)
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _open_file(self, number: int) -> pa.RecordBatchFileReader:
        if not self._is_whole(number):
            raise self._explain(number, f"sha256 {self._hash(number)[:12]}…, not that of the file when it was written")
        return map_batches(self._get_path(number))

    def _explain(self, number: int, found: str) -> UserError:
        path = self._get_path(number)
        return UserError(f"distill: {path} is damaged", found, "run the stage again, which computes it anew")

    def _get_path(self, number: int) -> Path:
        return self.folder / f"steps-{number * FILE_STEPS:06}.arrow"
