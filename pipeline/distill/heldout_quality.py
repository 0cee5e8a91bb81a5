"""Measure a model on held-out text and held-out conversations, for the curve and for the comparison with its teacher.

In: a model in any precision. Out: bits per byte of the text, mean nats of the assistant's tokens, and how often its most likely
token is the right one. The stage `evaluate` measures skills, one document or conversation at a time; this is a fixed sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from model.data.batches import Batch, Conversation, ConversationBatches, RowBatches, StreamRows, TokenStream
from model.network.loss import IGNORE, compute_token_nats
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer
from pipeline.distill.params import Distill

N_CONVERSATIONS = 128


class HeldoutQuality:
    """The held-out rows of a run; the same for every model that is compared."""

    def __init__(
        self, text: TokenStream, conversations: Sequence[Conversation], tokenizer: Tokenizer, params: Distill
    ) -> None:
        seq_len = params.model.seq_len
        rows = StreamRows(text, seq_len, mask_documents=True)
        self.bos = tokenizer.get_special_id("bos")
        batches = RowBatches([rows], batch_rows=1, seed=0)
        self.text = [batches.at(row) for row in range(max(min(params.eval_tokens // seq_len, rows.n_rows), 1))]
        ids = [index for batch in self.text for index in batch.targets.flatten().tolist()]
        self.n_bytes = len(tokenizer.decode_bytes(ids))
        sample = conversations[:: max(len(conversations) // N_CONVERSATIONS, 1)]
        talks = ConversationBatches(
            sample, seq_len=seq_len, batch_rows=1, seed=0, pad_id=tokenizer.get_special_id("pad")
        )
        self.talks = [talks.at(row) for row in range(talks.n_rows)]

    @torch.no_grad()
    def measure(self, model: Transformer) -> dict[str, float]:
        """Return bpb, loss_nats and right_frac."""
        nats = sum(
            float(each[batch.targets != self.bos].double().sum())
            for batch in self.text
            for each in [_compute_nats(model, batch)[0]]
        )
        total, n_right, n_targets = 0.0, 0, 0
        for batch in self.talks:
            each, is_right = _compute_nats(model, batch)
            total, n_right = total + float(each.double().sum()), n_right + int(is_right.sum())
            n_targets += int((batch.targets != IGNORE).sum())
        return {
            "bpb": nats / math.log(2) / self.n_bytes,
            "loss_nats": total / n_targets,
            "right_frac": n_right / n_targets,
        }


def _compute_nats(model: Transformer, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nats of each target, and whether it is the most likely token."""
    weight = model.head.weight
    documents = None if batch.documents is None else batch.documents.to(weight.device)
    targets = batch.targets.to(weight.device)
    hidden = model(batch.ids.to(weight.device), None, documents)
    is_right = (hidden.to(weight.dtype) @ weight.T).argmax(-1) == targets
    return compute_token_nats(hidden, weight, targets).cpu(), is_right.cpu()
