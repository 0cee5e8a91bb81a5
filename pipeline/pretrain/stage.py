"""Pretrain the transformer from scratch on the token shards: shards → a model folder.

Resumes from `scratch/` after any interruption, with the same final weights on a CPU. Memory: the model, its optimizer state and one
batch; the shards stay on disk. Loss: cross-entropy of the next token; history.jsonl has the curve of held-out bits per byte.
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

EVAL_TOKENS = 6_144  # tokens per forward pass


def run(params: Pretrain, *, shards: Path, tokenizer: Path, scratch: Path, out: Path) -> Metrics:
    """Train a model on the shards and write its folder.

    Raises: `UserError` for shards of another tokenizer, or a corpus too small for one row.
    """
    reader = Tokenizer.load(tokenizer)
    stream, held_out = _open_streams(shards, reader, params.model.seq_len, scratch / "verified.jsonl")
    config = ModelConfig(vocab_size=stream.manifest["vocab_size"], **params.model.model_dump())
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
    row_tokens = plan.batches.stages[0].row_tokens
    evaluate = make_evaluation(held_out, reader, row_tokens, params.eval_tokens, mask_documents=mask_documents)
    if params.samples is not None:
        evaluate = add_samples(evaluate, reader, params.samples)
    with open_world() as world:
        if world.is_main and plan.shares:
            print(f"pretrain: sources of the training rows\n{plan}", flush=True)
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


def _open_streams(shards: Path, tokenizer: Tokenizer, seq_len: int, verified: Path) -> tuple[TokenStream, TokenStream]:
    """Open the train and val splits. Raises: `UserError` for another tokenizer, or a split smaller than one row."""
    stream, held_out = (TokenStream(shards, split, verify_sha256=True, verified=verified) for split in ("train", "val"))
    if stream.manifest["tokenizer_sha256"] != tokenizer.sha256:
        raise UserError(
            "pretrain: the shards were written with another tokenizer", str(shards), "run dvc repro from shard on"
        )
    for split in (stream, held_out):
        if len(split) <= seq_len:
            raise UserError(
                f"pretrain: {split.name} does not fill one row",
                f"{len(split)} tokens, pretrain.model.seq_len = {seq_len}",
                "add more text, raise shard.val_frac, or lower seq_len",
            )
    return stream, held_out


def add_samples(
    evaluate: Callable[[Transformer], dict[str, float]], tokenizer: Tokenizer, samples: Samples
) -> Callable[[Transformer], dict[str, Any]]:
    """Return an evaluation that also generates a continuation of each prompt. It raises ValueError for a prompt that fills the
    context window."""
    bos = tokenizer.get_special_id("bos")
    prompts = [[bos, *tokenizer.encode(text)] for text in samples.prompts]

    def evaluate_and_write(model: Transformer) -> dict[str, Any]:
        answers = generate_batch(model, prompts, max_new_tokens=samples.max_tokens, stop_ids=[bos])
        return {**evaluate(model), "samples": [tokenizer.decode(answer) for answer in answers]}

    return evaluate_and_write


def find_documents(table: Path, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Return the ids of the train documents that have a token in one of these spans, in stream order."""
    document_ids: list[str] = []
    ranges = np.array(sorted(spans), dtype=np.int64)
    begins, stops = ranges[:, 0], np.maximum.accumulate(ranges[:, 1])
    for batch in read_shard(table, ["id", "split", "start", "n_tokens"]):
        start, length = (batch.column(name).to_numpy() for name in ("start", "n_tokens"))
        # A document is touched if a span that begins before its end also ends after its start.
        behind = np.searchsorted(begins, start + length)
        touched = (behind > 0) & (stops[behind - 1] > start)
        ids, splits = batch.column("id"), batch.column("split")
        document_ids += [
            ids[int(row)].as_py() for row in np.flatnonzero(touched) if splits[int(row)].as_py() == "train"
        ]
    return document_ids


def make_evaluation(
    stream: TokenStream, tokenizer: Tokenizer, seq_len: int, max_tokens: int, *, mask_documents: bool = False
) -> Callable[[Transformer], dict[str, float]]:
    """Return a quick evaluation for the curve: held-out bits per byte of the first `max_tokens` tokens in adjacent rows, masked as
    in training. The evaluate stage measures all documents one by one."""
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
