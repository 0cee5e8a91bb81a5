"""Save and load the folder of a finished model: config.json, model.safetensors and the tokenizer's files. No pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.network.model_files import check_shapes, check_size, load_tokenizer, read_config
from model.network.transformer import Transformer
from model.tokenizer.autotokenizer import save_tokenizer
from model.tokenizer.tokenizer import Tokenizer


def get_model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights by name; a tied head is omitted, because it is the embedding."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@torch.no_grad()
def restore(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the parameters of the same names. Raises: ValueError if names or shapes differ."""
    parameters = dict(model.named_parameters())
    check_shapes(_list_shapes(parameters), _list_shapes(tensors))
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def save_model(
    folder: Path, model: Transformer, tokenizer: Tokenizer, *, phase: str, weights: dict[str, Tensor] | None = None
) -> None:
    """Write config.json, model.safetensors (fp32) and the tokenizer's files: everything needed to run the model. `phase` is
    pretrain or sft; `weights` are the gathered weights of a sharded model."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"kind": "minigpt", "phase": phase, **model.config.to_dict()}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = get_model_tensors(model) if weights is None else weights
    tensors = {name: tensor.float().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors")
    save_tokenizer(folder, tokenizer, model.config.seq_len)


def _list_shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def load_model(folder: Path, *, device: torch.device | str = "cpu") -> tuple[Transformer, Tokenizer, dict[str, Any]]:
    """Return the model in evaluation mode, its tokenizer, and the remaining fields of config.json.
    Raises: ValueError for a folder without a model, or whose files don't belong together."""
    model_config, about = read_config(folder)
    try:
        check_size(model_config, folder / "model.safetensors")
        model = Transformer(model_config)
        restore(model, load_file(folder / "model.safetensors"))
    except SafetensorError as error:
        raise ValueError(
            f"{folder / 'model.safetensors'} can't be read ({error}); train or pull the model again"
        ) from error
    tokenizer = load_tokenizer(folder, model_config)
    return model.to(device).eval().requires_grad_(False), tokenizer, about
