"""Run a finished model: nats of held-out documents, continuations, speed.

In: a model, its tokenizer, the val split of the shards. Out: numbers and texts.
Each document is evaluated by itself, starting at its own <|bos|>; one longer than the context window, in windows that
overlap by half.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from model.data.batches import TokenStream
from model.inference.generate import generate_batch, stream
from model.inference.sampling import Sampling
from model.network.score import compute_nats_by_token
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.storage.tables import read_shard

MIN_DOCS = 2
MIN_TOKENS = 256
SPEED_TOKENS = 64
SPEED_RUNS = 5

Progress = Callable[[int], None]


class HeldoutDocuments(NamedTuple):
    """Held-out documents as columns."""

    ids: list[str]
    sources: list[str]
    n_bytes: list[int]
    tokens: list[list[int]]

    @property
    def n_tokens(self) -> int:
        return sum(map(len, self.tokens))


class Speed(NamedTuple):
    """Speed of generating one reply at a time."""

    tokens_per_second: float
    first_token_seconds: float


def read_documents(shards: Path, max_tokens: int, seed: int) -> HeldoutDocuments:
    """Return documents of the val split, chosen at random until there are `max_tokens`, in the order of the shards.

    Raises `UserError` if the split is too small to measure anything.
    """
    rows: list[dict[str, Any]] = []
    for batch in read_shard(shards / "docs.parquet"):
        rows += batch.filter(pc.and_(pc.equal(batch["split"], "val"), pc.greater(batch["n_bytes"], 0))).to_pylist()
    rows.sort(key=lambda row: row["id"])
    Random(seed).shuffle(rows)
    tokens = TokenStream(shards, "val")
    picked: list[dict[str, Any]] = []
    n_tokens = 0
    for row in rows:
        if n_tokens >= max_tokens:
            break
        picked.append(row)
        n_tokens += row["n_tokens"]
    if len(picked) < MIN_DOCS or n_tokens < MIN_TOKENS:
        raise UserError(
            f"evaluate: the val split of {shards} is too small to measure anything",
            f"{len(picked)} documents, {n_tokens} tokens (at least {MIN_DOCS} and {MIN_TOKENS} are needed)",
            "add text, split it into more documents (download.sources.*.split_on), or raise shard.val_frac",
        )
    picked.sort(key=lambda row: row["start"])
    return HeldoutDocuments(
        [row["id"] for row in picked],
        [row["source"] for row in picked],
        [row["n_bytes"] for row in picked],
        [tokens.read(row["start"], row["start"] + row["n_tokens"]).tolist() for row in picked],
    )


def take_first_documents(documents: HeldoutDocuments, max_tokens: int) -> HeldoutDocuments:
    """Return the first documents, at least two, up to about `max_tokens`: for a metric that need not be as precise."""
    n_tokens, n = 0, 0
    while n < len(documents.ids) and (n < MIN_DOCS or n_tokens < max_tokens):
        n_tokens += len(documents.tokens[n])
        n += 1
    return HeldoutDocuments(documents.ids[:n], documents.sources[:n], documents.n_bytes[:n], documents.tokens[:n])


def measure_heldout_nats(
    model: Transformer, documents: HeldoutDocuments, on_progress: Progress
) -> list[NDArray[np.float64]]:
    """Return the nats of each document's tokens after <|bos|>. `on_progress` gets the number of windows done."""
    return compute_nats_by_token(model, documents.tokens, on_progress=on_progress)


def generate_continuations(
    model: Transformer, tokenizer: Tokenizer, beginnings: Sequence[Sequence[int]], max_new_tokens: int
) -> list[str]:
    """Return the greedy continuation of each text, given as token ids, by the pretrained model."""
    if not beginnings:
        return []
    generated = generate_batch(
        model, beginnings, max_new_tokens=max_new_tokens, stop_ids={tokenizer.get_special_id("bos")}
    )
    return [tokenizer.decode(ids) for ids in generated]


def measure_speed(model: Transformer, prompt: Sequence[int]) -> Speed:
    """Return the speed of greedy decoding, one reply at a time: medians over `SPEED_RUNS` runs after one warm-up run."""
    prompt = list(prompt)[: model.config.seq_len // 2]
    sampling = Sampling(max_tokens=SPEED_TOKENS, temperature=0.0)
    firsts: list[float] = []
    rates: list[float] = []
    for _ in range(SPEED_RUNS + 1):
        started = time.perf_counter()
        ids = stream(model, prompt, sampling)
        next(ids)
        first = time.perf_counter()
        n_more = sum(1 for _ in ids)
        firsts.append(first - started)
        rates.append(n_more / (time.perf_counter() - first))
    return Speed(median(rates[1:]), median(firsts[1:]))


def choose_device(name: str) -> torch.device:
    """Return the device of this name; auto: a GPU if there is one, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
