"""What a finished model does, measured: nats of held-out documents, answers to held-out conversations, speed.

In: a model, its tokenizer, the shards' val split, conversations. Out: numbers and replies; what they are worth is
scored in pipeline/tasks. Each document is read by itself, from its own <|bos|>; one longer than the window in windows
that overlap by half.
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

import pyarrow.compute as pc
import torch

from model.data.batches import TokenStream
from model.inference.generate import generate_batch, stream
from model.inference.sampling import Sampling
from model.network.score import compute_document_nats
from model.network.transformer import Transformer
from model.tokenizer.chat import Message, parse_reply, prompt_ids
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
    tokens_per_second: float
    first_token_seconds: float


def read_documents(shards: Path, max_tokens: int, seed: int) -> HeldoutDocuments:
    """Of the val split, in a random order until there are `max_tokens`.

    Raises `UserError` when that is too little to say anything.
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
            f"{len(picked)} documents, {n_tokens} tokens; at least {MIN_DOCS} and {MIN_TOKENS} are needed",
            "bring more text, cut it into more documents (download.sources.*.split_on), or raise shard.val_frac",
        )
    picked.sort(key=lambda row: row["start"])
    return HeldoutDocuments(
        [row["id"] for row in picked],
        [row["source"] for row in picked],
        [row["n_bytes"] for row in picked],
        [tokens.read(row["start"], row["start"] + row["n_tokens"]).tolist() for row in picked],
    )


def first_documents(documents: HeldoutDocuments, max_tokens: int) -> HeldoutDocuments:
    """The first few, for a figure that need not be as sure."""
    n_tokens, n = 0, 0
    while n < len(documents.ids) and (n < MIN_DOCS or n_tokens < max_tokens):
        n_tokens += len(documents.tokens[n])
        n += 1
    return HeldoutDocuments(documents.ids[:n], documents.sources[:n], documents.n_bytes[:n], documents.tokens[:n])


def nats_of(model: Transformer, documents: HeldoutDocuments, on_progress: Progress) -> list[float]:
    """Of each document; progress is counted in documents, as far as windows tell."""
    return compute_document_nats(model, documents.tokens, on_progress=on_progress).tolist()


def replies(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[Message]],
    max_new_tokens: int,
    on_progress: Progress,
) -> list[Message]:
    """The likeliest reply to each prompt, as the assistant's message."""
    ids = [prompt_ids(prompt, tokenizer) for prompt in prompts]
    stop = {tokenizer.special(name) for name in ("end", "bos", "pad", "system", "user", "tool", "assistant")}
    written = generate_batch(model, ids, max_new_tokens=max_new_tokens, stop_ids=stop, on_progress=on_progress)
    return [parse_reply(reply, tokenizer) for reply in written]


def continuations(
    model: Transformer, tokenizer: Tokenizer, beginnings: Sequence[Sequence[int]], max_new_tokens: int
) -> list[str]:
    """Of plain text, by the pretrained model."""
    if not beginnings:
        return []
    written = generate_batch(model, beginnings, max_new_tokens=max_new_tokens, stop_ids={tokenizer.special("bos")})
    return [tokenizer.decode(ids) for ids in written]


def speed(model: Transformer, prompt: Sequence[int]) -> Speed:
    """Of one answer at a time, the likeliest token each step: medians over a few runs, the first of them not counted."""
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


def device_of(wanted: str) -> torch.device:
    """auto is a GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)
