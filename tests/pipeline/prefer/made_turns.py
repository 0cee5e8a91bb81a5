"""A tiny model, its tokenizer, and conversations with every kind of reply."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from model.network.config import ModelConfig
from model.network.folder import save_model
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer, train_bpe
from pipeline.storage.tables import CONVERSATIONS, HELDOUT, write_table

CONFIG = ModelConfig(vocab_size=320, seq_len=256, n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_head=16, d_ff=64)
PASSAGES = (
    '[numpy.sum] "Sum of array elements over a given axis." Returns the sum along the axis. — sum(a, axis=None)\n'
    '[numpy.prod] "Return the product of array elements." — prod(a)'
)


def call(name: str, argument: str) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "call": {"name": name, "argument": argument}}


def say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


SEARCHED = [say("user", "What is numpy.sum?"), call("search_docs", "numpy.sum"), say("tool", PASSAGES)]
CONVERSATION_OF = {
    "quote": [*SEARCHED, say("assistant", 'numpy.sum: "Sum of array elements over a given axis." [numpy.sum]')],
    "abstain": [
        say("user", "What is torch.frobnicate?"),
        call("search_docs", "torch.frobnicate"),
        say("tool", PASSAGES),
        say("assistant", "torch.frobnicate: the documentation I found does not say."),
    ],
    "calculator": [
        say("user", "What is 3 * 4?"),
        call("calculator", "3 * 4"),
        say("tool", "12"),
        say("assistant", "3 * 4 = 12"),
    ],
    "search": [say("user", "Look up numpy.linalg.norm"), call("search_docs", "numpy.linalg.norm")],
    "chat": [say("user", "Say hello in upper case."), say("assistant", "HELLO!")],
}


def make_rows(*kinds: str) -> list[dict[str, str]]:
    chosen = kinds or tuple(CONVERSATION_OF)
    return [{"id": f"t-{kind}", "kind": kind, "messages": json.dumps(CONVERSATION_OF[kind])} for kind in chosen]


@cache
def make_tokenizer() -> Tokenizer:
    texts = [message["content"] for messages in CONVERSATION_OF.values() for message in messages]
    return train_bpe(texts * 3, CONFIG.vocab_size, "cl100k")


def make_model(seed: int = 0) -> Transformer:
    """Return a model whose logits are far from uniform, so that samples differ."""
    model = Transformer(
        ModelConfig.from_dict(CONFIG.to_dict() | {"vocab_size": make_tokenizer().vocab_size}), seed=seed
    )
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
    return model


def write_inputs(folder: Path) -> tuple[Path, Path]:
    """Write a model's folder and the conversations."""
    base, conversations = folder / "base", folder / "conversations"
    if not base.is_dir():
        save_model(base, make_model(), make_tokenizer(), phase="sft")
        conversations.mkdir()
        rows = [row | {"id": f"{row['id']}-{n}"} for n in range(4) for row in make_rows()]
        write_table(conversations / "train.parquet", make_table(rows, CONVERSATIONS))
        expected = {"quote": {"quote": "Sum of array elements over a given axis.", "source": "numpy.sum"}}
        heldout = [
            row | {"expected": json.dumps({"answer": "x", "symbol": "", **expected.get(row["kind"], {})})}
            for row in make_rows("quote", "abstain")
        ]
        write_table(conversations / "heldout.parquet", make_table(heldout, HELDOUT))
    return base, conversations


def make_table(rows: list[dict[str, str]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict.fromkeys(schema.names, "") | row for row in rows], schema=schema)
