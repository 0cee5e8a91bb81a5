"""A model folder is loaded whole, or refused with what was found in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from model.network.folder import load_model, save_model
from model.network.transformer import Transformer
from model.tokenizer.kinds import train_char
from tests.model.conftest import TINY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", Transformer(TINY, seed=3), train_char(iter(["abc"]), 300), phase="distill")
    return tmp_path / "model"


def test_what_is_saved_is_loaded(folder: Path) -> None:
    model, tokenizer, about = load_model(folder)
    assert (model.config, about) == (TINY, {"kind": "minigpt", "phase": "distill"})
    assert torch.equal(model.embedding.weight, Transformer(TINY, seed=3).embedding.weight)
    assert tokenizer.encode("abc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"model_type": "llama", "hidden_size": 8}',
            r"not the configuration of a MiniGPT model; found model_type 'llama'",
        ),
        ('{"kind": "minigpt-adapter"}', r"found kind 'minigpt-adapter'"),
        ("[1, 2]", r"found \[1, 2\]"),
        ('{"kind": "minigpt", "n_la', r"config.json can't be read; found "),
        ('{"kind": "minigpt", "n_layer": 2}', r"lacks settings"),
    ],
)
def test_another_program_s_configuration_is_refused(folder: Path, content: str, message: str) -> None:
    (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_model(folder)


@pytest.mark.parametrize("n_bytes", [0, 5, 300, -8])
def test_a_truncated_file_of_weights_is_refused(folder: Path, n_bytes: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"model.safetensors can't be read"):
        load_model(folder)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"d_ff": config["d_ff"] // 2}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"the weights belong to another model"):
        load_model(folder)
