"""Make the default model with random weights, for benchmarks that need its shape and not what it has learned."""

from __future__ import annotations

import pydoc_data.topics

import torch
from ruamel.yaml import YAML

from benchmarks.measure import ROOT
from model.network.config import ModelConfig
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer, train_bpe

VOCAB_SIZE = 4_096
PROMPT = [int(number) for number in torch.randint(16, VOCAB_SIZE, (64,), generator=torch.Generator().manual_seed(1))]


def make_default_model() -> Transformer:
    """Return the model of params.yaml with no weight at zero, unlike before training."""
    params = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    model = Transformer(ModelConfig(vocab_size=VOCAB_SIZE, **params["pretrain"]["model"])).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


def train_small_tokenizer() -> Tokenizer:
    """Return a tokenizer trained on Python's language reference."""
    return train_bpe(iter(pydoc_data.topics.topics.values()), VOCAB_SIZE)
