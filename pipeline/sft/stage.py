"""Fine-tune the pretrained model on conversations: a base model and conversations → a chat model.

The loss covers the assistant's tokens only. Whole conversations are packed into rows; only those longer than the context window are
truncated, and counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from model.data.batches import Conversation, ConversationBatches
from model.network.folder import load_model
from model.network.loss import compute_token_nats
from model.network.transformer import Transformer
from model.tokenizer.chat import messages_from_json, render
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.sft.params import Sft
from pipeline.storage.tables import read_table
from pipeline.training.phase import open_world, run_training

EVAL_CONVERSATIONS = 128


def run(params: Sft, *, base: Path, conversations: Path, scratch: Path, out: Path) -> Metrics:
    """Fine-tune the model and write its folder. Raises: `UserError` if there are no conversations."""
    settings = params.training
    model, tokenizer, _ = load_model(base)
    model.train().requires_grad_(True)
    rendered = read_conversations(conversations / "train.parquet", tokenizer)
    if not rendered:
        raise UserError("sft: no conversations to train on", f"none in {conversations}", "raise conversations.n_*")
    batches = ConversationBatches(
        rendered,
        seq_len=model.config.seq_len,
        batch_rows=settings.batch_rows,
        seed=settings.seed,
        pad_id=tokenizer.get_special_id("pad"),
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
        )
    if metrics:
        metrics |= {
            "conversations": len(rendered),
            "rows": batches.n_rows,
            "conversations_cut": len(batches.packing.cut),
        }
    return metrics


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
    """Return the ids of the conversations in a batch."""
    ids = read_table(path, ["id"]).column("id")
    return [ids[piece].as_py() for row in batches.at(number).rows for piece in batches.packing.rows[row]]


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
