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

from model.data.batches import TokenStream
from model.inference.generate import generate_batch
from model.network.config import ModelConfig
from model.network.loss import compute_token_nats
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.pretrain.budgeted import complete_training
from pipeline.pretrain.data import plan_data
from pipeline.pretrain.params import Pretrain, Samples
from pipeline.storage.tables import read_shard
from pipeline.training.phase import open_world, run_training

EVAL_TOKENS = 6_144  # at a time


def run(params: Pretrain, *, shards: Path, tokenizer: Path, scratch: Path, out: Path) -> Metrics:
    """Raises: `UserError` for shards of another tokenizer, or a corpus too small for one batch."""
    reader = Tokenizer.load(tokenizer)
    stream, held_out = (
        TokenStream(shards, split, verify_sha256=True, verified=scratch / "verified.jsonl")
        for split in ("train", "val")
    )
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
    settings = complete_training(params, config)
    plan = plan_data(
        params.data,
        stream,
        shards / "docs.parquet",
        seq_len=config.seq_len,
        pad_id=reader.get_special_id("pad"),
        n_steps=settings.total_steps,
        batch_rows=settings.batch_rows,
        seed=settings.seed,
    )
    model = Transformer(config, seed=settings.seed)
    mask_documents = params.data.mask_documents
    evaluate = make_evaluation(held_out, reader, config.seq_len, params.eval_tokens, mask_documents=mask_documents)
    if params.samples is not None:
        evaluate = add_samples(evaluate, reader, params.samples)
    with open_world() as world:
        if world.is_main and plan.shares:
            print(f"pretrain: what the run is made of\n{plan}", flush=True)
        metrics = run_training(
            "pretrain",
            model,
            reader,
            plan.batches,
            settings,
            evaluate=evaluate,
            documents_of=lambda batch: find_documents(shards / "docs.parquet", plan.batches.find_spans(batch)),
            world=world,
            scratch=scratch,
            out=out,
            bytes_per_token=stream.manifest["train"]["n_bytes"] / stream.manifest["train"]["n_tokens"],
        )
        return metrics | plan.metrics if world.is_main else metrics


def add_samples(
    evaluate: Callable[[Transformer], dict[str, float]], tokenizer: Tokenizer, samples: Samples
) -> Callable[[Transformer], dict[str, Any]]:
    """The same figures, and what the model makes of each prompt. Raises: ValueError for a prompt that fills the window."""
    bos = tokenizer.get_special_id("bos")
    prompts = [[bos, *tokenizer.encode(text)] for text in samples.prompts]

    def evaluate_and_write(model: Transformer) -> dict[str, Any]:
        answers = generate_batch(model, prompts, max_new_tokens=samples.max_tokens, stop_ids=[bos])
        return {**evaluate(model), "samples": [tokenizer.decode(answer) for answer in answers]}

    return evaluate_and_write


def find_documents(table: Path, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The ids of the documents of the train split that have a token in one of these spans, in the order of the stream."""
    found: list[str] = []
    ranges = np.array(sorted(spans), dtype=np.int64)
    begins, stops = ranges[:, 0], np.maximum.accumulate(ranges[:, 1])
    for batch in read_shard(table, ["id", "split", "start", "n_tokens"]):
        start, length = (batch.column(name).to_numpy() for name in ("start", "n_tokens"))
        # Of the spans that begin before a document's end, one ends behind its start.
        behind = np.searchsorted(begins, start + length)
        touched = (behind > 0) & (stops[behind - 1] > start)
        ids, splits = batch.column("id"), batch.column("split")
        found += [ids[int(row)].as_py() for row in np.flatnonzero(touched) if splits[int(row)].as_py() == "train"]
    return found


def make_evaluation(
    stream: TokenStream, tokenizer: Tokenizer, seq_len: int, max_tokens: int, *, mask_documents: bool = False
) -> Callable[[Transformer], dict[str, float]]:
    """A quick held-out figure for the curve: rows side by side, the first `max_tokens`, masked as training's are. The evaluate
    stage measures it in full, document by document."""
    n_rows = max(min(max_tokens, len(stream) - 1) // seq_len, 1)
    tokens = stream.read(0, n_rows * seq_len + 1)
    rows = torch.from_numpy(np.stack([tokens[row * seq_len : (row + 1) * seq_len + 1] for row in range(n_rows)]))
    n_bytes = len(tokenizer.decode_bytes(tokens[1:].tolist()))
    bos = tokenizer.get_special_id("bos")

    @torch.no_grad()
    def evaluate(model: Transformer) -> dict[str, float]:
        weight, nats = model.head.weight, 0.0
        for part in rows.split(max(EVAL_TOKENS // seq_len, 1)):
            part = part.to(weight.device)
            documents = (part[:, :-1] == bos).cumsum(1) if mask_documents else None
            per_token = compute_token_nats(model(part[:, :-1], None, documents), weight, part[:, 1:])
            nats += float(per_token[part[:, 1:] != bos].double().sum())
        return {"bpb": nats / math.log(2) / n_bytes}

    return evaluate
