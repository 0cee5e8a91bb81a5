"""Pretrain the transformer from scratch on the token shards: TOKENS → a model folder.

Resumes from `scratch/` after any interruption, with the same final weights on CPU. Memory: the model, its optimiser state and one
batch; the shards stay on disk. Loss: cross-entropy of the next token; the curve of held-out bits per byte is in history.jsonl.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.batches import StreamBatches, TokenStream
from model.config import ModelConfig
from model.generate import generate_batch
from model.loss import token_nats
from model.tokenizer import Tokenizer
from model.transformer import Transformer
from pipeline.budget import settle
from pipeline.errors import UserError
from pipeline.params import Pretrain, Samples
from pipeline.stage import Metrics
from pipeline.tables import read_shard
from pipeline.training import run_training, world_wanted

EVAL_ROWS = 16


def run(params: Pretrain, *, shards: Path, tokenizer: Path, scratch: Path, out: Path) -> Metrics:
    """Raises: `UserError` for shards of another tokenizer, or a corpus too small for one batch."""
    reader = Tokenizer.load(tokenizer)
    stream, held_out = (TokenStream(shards, split, verify_sha256=True) for split in ("train", "val"))
    if stream.manifest["tokenizer_sha256"] != reader.sha256:
        raise UserError(
            "pretrain: the shards were written with another tokenizer", str(shards), "run dvc repro from shard on"
        )
    config = ModelConfig(vocab_size=stream.manifest["vocab_size"], **params.model.model_dump())
    for split in (stream, held_out):
        if len(split) <= config.seq_len:
            raise UserError(
                f"pretrain: {split.name} does not fill one row",
                f"{len(split)} tokens, pretrain.model.seq_len = {config.seq_len}",
                "bring more text, raise shard.val_frac, or lower seq_len",
            )
    settings = settle(params, config)
    batches = StreamBatches(stream, seq_len=config.seq_len, batch_rows=settings.batch_rows, seed=settings.seed)
    model = Transformer(config, seed=settings.seed)
    evaluate = bits_per_byte_of(held_out, reader, config.seq_len, params.eval_tokens)
    if params.samples is not None:
        evaluate = with_samples(evaluate, reader, params.samples)
    with world_wanted() as world:
        return run_training(
            "pretrain",
            model,
            reader,
            batches,
            settings,
            evaluate=evaluate,
            documents_of=lambda batch: documents_in(shards / "docs.parquet", batches.spans(batch)),
            world=world,
            scratch=scratch,
            out=out,
        )


def with_samples(
    evaluate: Callable[[Transformer], dict[str, float]], tokenizer: Tokenizer, samples: Samples
) -> Callable[[Transformer], dict[str, Any]]:
    """The same figures, and what the model makes of each prompt. Raises: ValueError for a prompt that fills the window."""
    bos = tokenizer.special("bos")
    prompts = [[bos, *tokenizer.encode(text)] for text in samples.prompts]

    def evaluate_and_write(model: Transformer) -> dict[str, Any]:
        answers = generate_batch(model, prompts, max_new_tokens=samples.max_tokens, stop_ids=[bos])
        return {**evaluate(model), "samples": [tokenizer.decode(answer) for answer in answers]}

    return evaluate_and_write


def documents_in(table: Path, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The ids of the documents of the train split that have a token in one of these spans, in the order of the stream."""
    found: list[str] = []
    for batch in read_shard(table, ["id", "split", "start", "n_tokens"]):
        start, length = (batch.column(name).to_numpy() for name in ("start", "n_tokens"))
        touched = np.zeros(len(start), dtype=bool)
        for begin, stop in spans:
            touched |= (start < stop) & (start + length > begin)
        ids, splits = batch.column("id"), batch.column("split")
        found += [ids[int(row)].as_py() for row in np.flatnonzero(touched) if splits[int(row)].as_py() == "train"]
    return found


def bits_per_byte_of(
    stream: TokenStream, tokenizer: Tokenizer, seq_len: int, max_tokens: int
) -> Callable[[Transformer], dict[str, float]]:
    """A quick held-out figure for the curve: rows side by side, the first `max_tokens`. The evaluate stage measures it in full."""
    n_rows = max(min(max_tokens, len(stream) - 1) // seq_len, 1)
    tokens = stream.read(0, n_rows * seq_len + 1)
    rows = torch.from_numpy(np.stack([tokens[row * seq_len : (row + 1) * seq_len + 1] for row in range(n_rows)]))
    n_bytes = len(tokenizer.decode_bytes(tokens[1:].tolist()))
    bos = tokenizer.special("bos")

    @torch.no_grad()
    def evaluate(model: Transformer) -> dict[str, float]:
        weight, nats = model.head.weight, 0.0
        for part in rows.split(EVAL_ROWS):
            part = part.to(weight.device)
            per_token = token_nats(model(part[:, :-1]), weight, part[:, 1:])
            nats += float(per_token[part[:, 1:] != bos].double().sum())
        return {"bpb": nats / math.log(2) / n_bytes}

    return evaluate
