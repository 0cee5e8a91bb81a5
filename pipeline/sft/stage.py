"""Fine-tune the pretrained model on conversations: a base model and conversations → a chat model.

The loss covers the assistant's tokens only. Whole conversations are packed into rows; only those longer than the context window are
truncated, and counted. With `replay_frac` some rows are pretraining text from the shards, all of whose tokens count: without them
the model forgets how text that is no conversation goes on (docs/training.md).

Replay: Scialom et al. 2022 (Fine-tuned language models are continual learners).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from model.data.batches import Conversation, ConversationBatches, StreamRows, TokenStream
from model.network.folder import load_model
from model.network.loss import compute_token_nats
from model.network.transformer import Transformer
from model.tokenizer.chat import messages_from_json, render
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.sft.params import Sft
from pipeline.storage.tables import read_table
from pipeline.training.phase import make_adapted_model, open_world, run_training

EVAL_CONVERSATIONS = 128


def run(
    params: Sft, *, base: Path, conversations: Path, shards: Path | None = None, scratch: Path, out: Path
) -> Metrics:
    """Fine-tune the model and write its folder, or that of an adapter.

    Raises: `UserError` if there are no conversations, or nothing to replay.
    """
    settings = params.training
    model, tokenizer, _ = load_model(base)
    model.train().requires_grad_(True)
    adapted = make_adapted_model(params.adapter, model, settings.seed)
    rendered = read_conversations(conversations / "train.parquet", tokenizer)
    if not rendered:
        raise UserError("sft: no conversations to train on", f"none in {conversations}", "raise conversations.n_*")
    batches = ConversationBatches(
        rendered,
        seq_len=model.config.seq_len,
        batch_rows=settings.batch_rows,
        seed=settings.seed,
        pad_id=tokenizer.get_special_id("pad"),
        replay=open_replay(params, shards, tokenizer, model.config.seq_len, scratch / "verified.jsonl"),
        replay_frac=params.replay_frac,
        replay_weight=params.replay_weight,
    )
    evaluate = make_evaluation(
        read_conversations(conversations / "heldout.parquet", tokenizer), tokenizer, model.config.seq_len
    )
    with open_world() as world:
        metrics = run_training(
            "sft",
            model,
            tokenizer,
            batches,
            settings,
            evaluate=evaluate,
            documents_of=lambda batch: find_conversations(conversations / "train.parquet", batches, batch),
            world=world,
            scratch=scratch,
            out=out,
            adapted=adapted,
        )
    if metrics:
        metrics |= {
            "conversations": len(rendered),
            "rows": len(batches.packing.rows),
            "conversations_cut": len(batches.packing.cut),
            "conversations_without_target": len(batches.packing.left_out),
        }
        if adapted is not None:
            metrics["n_params_trained"] = adapted.adapter.n_parameters
    return metrics


def open_replay(
    params: Sft, shards: Path | None, tokenizer: Tokenizer, seq_len: int, verified: Path
) -> StreamRows | None:
    """Return the rows of pretraining text that are replayed, None without replay. Raises: `UserError` for shards that are missing,
    of another tokenizer, or too small."""
    if not params.replay_frac:
        return None
    if shards is None:
        do = "give --shards, the folder of the stage shard, or set sft.replay_frac: 0"
        raise UserError("sft.replay_frac needs text to replay", f"replay_frac = {params.replay_frac}, no --shards", do)
    stream = TokenStream(shards, "train", verify_sha256=True, verified=verified)
    if stream.manifest["tokenizer_sha256"] != tokenizer.sha256:
        raise UserError(
            "sft: the shards were written with another tokenizer than the base model has",
            f"{shards}: sha256 {stream.manifest['tokenizer_sha256'][:12]}…, the base model's {tokenizer.sha256[:12]}…",
            "give the shards that the base model was trained on, or set sft.replay_frac: 0",
        )
    if len(stream) <= seq_len:
        do = "give more text, or set sft.replay_frac: 0"
        raise UserError("sft: the text to replay does not fill one row", f"{len(stream)} tokens of {seq_len}", do)
    return StreamRows(stream, seq_len, mask_documents=True)


def read_conversations(path: Path, tokenizer: Tokenizer) -> list[Conversation]:
    """Read conversations and render them with the chat template into ids and loss masks."""
    conversations: list[Conversation] = []
    for text in read_table(path, ["messages"]).column("messages"):
        ids, mask = render(messages_from_json(json.loads(text.as_py())), tokenizer)
        conversations.append(
            Conversation(np.array(ids, dtype=np.int32), np.array(mask))
        )  # a tenth of the memory of a list
    return conversations


def find_conversations(path: Path, batches: ConversationBatches, number: int) -> list[str]:
    """Return the ids of the conversations in a batch, and the positions of its replayed rows in the stream of the shards."""
    ids = read_table(path, ["id"]).column("id")
    rows = [row for row in batches.at(number).rows if row < len(batches.packing.rows)]
    replayed = [f"shards: tokens {start} to {stop}" for start, stop in batches.find_spans(number)]
    return [*(ids[piece].as_py() for row in rows for piece in batches.packing.rows[row]), *replayed]


def make_evaluation(
    conversations: list[Conversation], tokenizer: Tokenizer, seq_len: int
) -> Callable[[Transformer], dict[str, float]]:
    """Return an evaluation for the curve: mean nats of the assistant's tokens in a fixed sample of held-out conversations."""
    if not conversations:
        return lambda model: {}
    step = max(len(conversations) // EVAL_CONVERSATIONS, 1)
    batches = ConversationBatches(
        conversations[::step], seq_len=seq_len, batch_rows=1, seed=0, pad_id=tokenizer.get_special_id("pad")
    )

    @torch.no_grad()
    def evaluate(model: Transformer) -> dict[str, float]:
        device = model.head.weight.device
        totals: list[float] = [0.0, 0]
        for row in range(batches.n_rows):
            batch = batches.at(row)
            documents = batch.documents.to(device) if batch.documents is not None else None
            nats = compute_token_nats(
                model(batch.ids.to(device), None, documents), model.head.weight, batch.targets.to(device)
            )
            totals = [totals[0] + float(nats.double().sum()), totals[1] + int((batch.targets >= 0).sum())]
        return {"heldout_loss_nats": totals[0] / totals[1]}

    return evaluate
