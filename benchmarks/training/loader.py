"""Batches of tokens on one core: ours against nanoGPT's random windows of a memory-mapped file, over the same tokens.

Ours are in a seeded order and can be resumed; nanoGPT's are not. Training makes them ahead, during a step: the details have how
long a step of the default model waits for its batch, and what a batch costs one core, both to be at most 2 % of a step.
"""

from __future__ import annotations

import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import torch

from benchmarks.measure import Result, Row, Work, compare, measure_rate
from benchmarks.serving.models import VOCAB_SIZE, make_default_model
from model.data.batches import Batch, Batches, RowBatches, StreamBatches, TokenStream
from model.data.documents import PackedRows
from model.data.prefetch import Prefetcher
from model.network.transformer import Transformer
from model.training.loop import StepRecord, TrainSettings, train
from pipeline.storage.arrow import TokenFile

ROWS, WARM_STEPS = 12, 4


class RandomWindows:
    """Make batches as nanoGPT's get_batch does: windows anywhere in the file, drawn by torch's generator."""

    n_rows, batch_rows = 10_000_000, ROWS

    def __init__(self, path: Path, seq_len: int) -> None:
        self.path, self.seq_len = path, seq_len

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        tokens = np.memmap(self.path, dtype=np.uint16, mode="r")
        starts = torch.randint(len(tokens) - self.seq_len, (ROWS,)).tolist()
        windows = [tokens[start : start + self.seq_len + 1].astype(np.int64) for start in starts]
        rows = torch.stack([torch.from_numpy(window) for window in windows])
        return Batch(rows[:, :-1], rows[:, 1:])


class TimedBatches:
    """Return the same batches, and record how long each call of `at` took."""

    def __init__(self, batches: Batches) -> None:
        self.n_rows, self.batch_rows = batches.n_rows, batches.batch_rows
        self.batches, self.seconds = batches, list[float]()

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        started = time.perf_counter()
        batch = self.batches.at(step, rank=rank, n_ranks=n_ranks)
        self.seconds.append(time.perf_counter() - started)
        return batch


def write_tokens(folder: Path, n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Write the same tokens as a shard folder and as one plain file; return where documents start and their lengths."""
    generator = np.random.default_rng(1)
    lengths = generator.lognormal(4.6, 1.2, n_tokens // 400).astype(np.int64) + 2
    lengths = np.append(lengths, n_tokens - lengths.sum())
    tokens = generator.integers(16, VOCAB_SIZE, n_tokens).astype(np.uint16)
    starts = np.cumsum(lengths) - lengths
    tokens[starts] = 1
    tokens.tofile(folder / "train.bin")
    file = TokenFile(folder / "train-00000.arrow", pa.uint16())
    file.write(pa.array(tokens))
    file.close()
    listed = [{"name": file.path.name, "n_tokens": n_tokens}]
    split = {"n_tokens": n_tokens, "n_docs": len(lengths), "files": listed}
    (folder / "manifest.json").write_text(json.dumps({"dtype": "uint16", "bos_id": 1, "train": split}))
    return starts, lengths


def measure_waiting(model: Transformer, batches: Batches, n_steps: int, folder: Path) -> tuple[float, float]:
    """Return the seconds that a step waits for its batch, and the seconds of a step: medians after the first few."""
    timed, records = TimedBatches(batches), list[StepRecord]()
    settings = TrainSettings(total_steps=n_steps, use_compile=False, checkpoint_every_seconds=0)
    train(model, timed, settings=settings, checkpoints=folder, on_step=records.append)
    steps = [after.seconds - before.seconds for before, after in pairwise(records)]
    return median(timed.seconds[-n_steps + WARM_STEPS :]), median(steps[WARM_STEPS - 1 :])


def make_batches(batches: Batches, n_batches: int) -> float:
    """Make batches and return the number of tokens in the last one."""
    return float([batches.at(step) for step in range(n_batches)][-1].ids.numel())


def run(*, n_tokens: int = 20_000_000, n_batches: int = 500, n_steps: int = 24) -> Result:
    """Return batches per second that one core makes; the details have how long training waits."""
    config = make_default_model().config
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts, lengths = write_tokens(folder, n_tokens)
        stream = TokenStream(folder, "train")
        plain = StreamBatches(stream, seq_len=config.seq_len, batch_rows=ROWS, seed=1)
        rows = PackedRows(stream, starts, lengths, config.seq_len, mask_documents=True)
        packed = RowBatches([rows], batch_rows=ROWS, seed=1)
        peer = RandomWindows(folder / "train.bin", config.seq_len)

        def details() -> list[Row]:
            with Prefetcher(packed) as ahead:
                wait, step = measure_waiting(Transformer(config), ahead, n_steps, folder / "checkpoints")
            seconds_per_batch = {
                "waiting for a batch": wait,
                "making one, plain": 1 / measure_rate(lambda: make_batches(plain, n_batches), n_batches),
                "making one, packed and masked": 1 / measure_rate(lambda: make_batches(packed, n_batches), n_batches),
            }
            return [{"": name, "µs": 1e6 * s, "% of a step": 100 * s / step} for name, s in seconds_per_batch.items()]

        work = f"{n_batches} batches of {ROWS} x {config.seq_len} tokens"
        return compare(
            Work(work, "batches/s", n_batches, "nanoGPT's get_batch: random windows, made on request"),
            lambda: make_batches(plain, n_batches),
            lambda: make_batches(peer, n_batches),
            details=details,
        )
