"""Fixtures of the model tests. Shape annotations are checked: the import hook is installed before anything imports the model."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import jaxtyping
import pytest

if "model.network.transformer" not in sys.modules:  # the modules that take tensors
    names = ("network.transformer", "network.loss", "network.score", "inference.generate")
    names += ("data.batches", "data.documents", "data.packing", "data.order")
    modules = [f"model.{name}" for name in names]
    jaxtyping.install_import_hook(modules, "beartype.beartype")

import numpy as np
import pyarrow as pa
import torch

from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer, train_bpe

SENTENCES = [
    "The function returns the sum of the array over the given axis.",
    "A window of text is cut, and what is left is thrown away; naïve café, 日本語, emoji 😀.",
    "def norm(x, ord=None): the matrix or vector norm of x, 12345 times.",
    "<|user|> is a token only where the template writes it.",
]
TINY = ModelConfig(vocab_size=300, seq_len=32, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_head=8, d_ff=64)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # more threads are not faster at these sizes, and slow each other down on a busy machine


@pytest.fixture(scope="session", params=["cl100k"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_bpe(SENTENCES * 4, 320, request.param)


def awake(config: ModelConfig = TINY, seed: int = 0) -> Transformer:
    """Return a model without zero-initialized projections, so that every part of it affects the output."""
    model = Transformer(config, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model


def write_shards(folder: Path, n_tokens: int = 2_000, vocab_size: int = 300, files: int = 2) -> np.ndarray:
    """Write a shard folder of tokens with a learnable pattern; return the train tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    tokens = ((np.arange(n_tokens) * 7 + generator.integers(0, 3, n_tokens)) % (vocab_size - 16) + 16).astype(np.uint16)
    manifest = {"vocab_size": vocab_size, "tokenizer_sha256": "", "dtype": "uint16", "bos_id": 1, "seed": 0}
    for split, array in (("train", tokens), ("val", tokens[: n_tokens // 4])):
        entries = []
        for number, part in enumerate(np.array_split(array, files)):
            path = folder / f"{split}-{number:05d}.arrow"
            schema = pa.schema([pa.field("tokens", pa.uint16())])
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for start in range(0, len(part), 300):
                    writer.write_batch(pa.record_batch([pa.array(part[start : start + 300])], schema=schema))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            entries.append({"name": path.name, "n_tokens": len(part), "sha256": digest})
        manifest[split] = {"n_tokens": len(array), "n_docs": 1, "n_bytes": 3 * len(array), "files": entries}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return tokens
