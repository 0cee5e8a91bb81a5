"""How long training waits for its batches: ours, made ahead beside a step, and nanoGPT's way (random windows of a memory-mapped
file, made when they are asked for; no order, nothing to resume), over the same tokens and the same steps of the default model.

`work` says what share of a step the wait is, and what a batch costs one core, wherever it is made: to be at most 2 % of a step.
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

from benchmarks.measure import Result, rates
from benchmarks.models import VOCAB_SIZE, default_model
from model.batches import Batch, Batches, RowBatches, StreamBatches, TokenStream
from model.documents import PackedRows
from model.prefetch import Prefetched
from model.train import StepRecord, TrainSettings, train
from model.transformer import Transformer
from pipeline.arrow_files import TokenFile

N_TOKENS, ROWS, STEPS, WARM, N_MADE = 20_000_000, 12, 24, 4, 500


class RandomWindows:
    """What nanoGPT's get_batch does: windows anywhere in the file, drawn by torch's generator."""

    n_rows, batch_rows = N_TOKENS, ROWS

    def __init__(self, path: Path, seq_len: int) -> None:
        self.path, self.seq_len = path, seq_len

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        tokens = np.memmap(self.path, dtype=np.uint16, mode="r")
        starts = torch.randint(len(tokens) - self.seq_len, (ROWS,)).tolist()
        windows = [tokens[start : start + self.seq_len + 1].astype(np.int64) for start in starts]
        rows = torch.stack([torch.from_numpy(window) for window in windows])
        return Batch(rows[:, :-1], rows[:, 1:])


class Timed:
    """The same batches; how long each call of `at` took."""

    def __init__(self, batches: Batches) -> None:
        self.n_rows, self.batch_rows = batches.n_rows, batches.batch_rows
        self.batches, self.seconds = batches, list[float]()

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        started = time.perf_counter()
        batch = self.batches.at(step, rank=rank, n_ranks=n_ranks)
        self.seconds.append(time.perf_counter() - started)
        return batch


def write(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same tokens as a shard folder and as one plain file; gives where documents begin and how long they are."""
    generator = np.random.default_rng(1)
    lengths = generator.lognormal(4.6, 1.2, N_TOKENS // 400).astype(np.int64) + 2
    lengths = np.append(lengths, N_TOKENS - lengths.sum())
    tokens = generator.integers(16, VOCAB_SIZE, N_TOKENS).astype(np.uint16)
    starts = np.cumsum(lengths) - lengths
    tokens[starts] = 1
    tokens.tofile(folder / "train.bin")
    file = TokenFile(folder / "train-00000.arrow", pa.uint16())
    file.write(pa.array(tokens))
    file.close()
    listed = [{"name": file.path.name, "n_tokens": N_TOKENS}]
    split = {"n_tokens": N_TOKENS, "n_docs": len(lengths), "files": listed}
    (folder / "manifest.json").write_text(json.dumps({"dtype": "uint16", "bos_id": 1, "train": split}))
    return starts, lengths


def waiting(model: Transformer, batches: Batches, folder: Path) -> tuple[float, float]:
    """Seconds a step waits for its batch, and seconds of a step: medians after the first few."""
    timed, records = Timed(batches), list[StepRecord]()
    settings = TrainSettings(total_steps=STEPS, use_compile=False, checkpoint_every_seconds=0)
    train(model, timed, settings=settings, checkpoints=folder, on_step=records.append)
    steps = [after.seconds - before.seconds for before, after in pairwise(records)]
    return median(timed.seconds[-STEPS + WARM :]), median(steps[WARM - 1 :])


def make(batches: Batches) -> None:
    for step in range(N_MADE):
        batches.at(step)


def run() -> Result:
    """Batches that one core makes a second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        starts, lengths = write(folder)
        stream, config = TokenStream(folder, "train"), default_model().config
        plain = StreamBatches(stream, seq_len=config.seq_len, batch_rows=ROWS, seed=1)
        rows = PackedRows(stream, starts, lengths, config.seq_len, mask_documents=True)
        packed = RowBatches([rows], batch_rows=ROWS, seed=1)
        peer = RandomWindows(folder / "train.bin", config.seq_len)
        ours, theirs = rates(lambda: make(plain), lambda: make(peer), N_MADE, clock=time.process_time)
        slower, _ = rates(lambda: make(packed), lambda: None, N_MADE, clock=time.process_time)
        with Prefetched(packed) as ahead:
            wait, step = waiting(Transformer(config), ahead, folder / "ours")
    work = (
        f"{ROWS} x {config.seq_len} tokens a batch; of a step of {step * 1e3:.0f} ms training waits {wait * 1e6:.0f} µs = "
        f"{wait / step:.3%} for it, and its making takes {1e6 / ours:.0f} µs = {1 / ours / step:.3%} (packed and masked "
        f"{1e6 / slower:.0f} µs = {1 / slower / step:.3%}) of one core beside it"
    )
    return Result(work, "batches/s", ours, theirs, "nanoGPT's way: random windows, made when asked for")
