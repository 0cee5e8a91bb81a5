"""Save and load the folder of a finished model: config.json, model.safetensors and the tokenizer's files. No pickles."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.network.config import ModelConfig
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
    mismatched = [
        name
        for name in sorted(parameters.keys() | tensors.keys())
        if _get_shape(parameters, name) != _get_shape(tensors, name)
    ]
    if mismatched:
        name = mismatched[0]
        raise ValueError(
            f"the weights belong to another model: {name} has shape {_get_shape(tensors, name)} "
            f"instead of {_get_shape(parameters, name)} "
            f"({len(mismatched)} tensors differ); use the config.json they were saved with"
        )
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


def load_model(folder: Path, *, device: torch.device | str = "cpu") -> tuple[Transformer, Tokenizer, dict[str, Any]]:
    """Return the model in evaluation mode, its tokenizer, and the remaining fields of config.json.
    Raises: ValueError for a folder without a model, or whose files don't belong together."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} is not a model folder: {name} is missing; give a folder that pretrain or sft wrote"
            )
    config = _read_config(folder / "config.json")
    about = {key: config.pop(key) for key in ("kind", "phase") if key in config}
    model_config = ModelConfig.from_dict(config)
    try:
        _check_size(model_config, folder / "model.safetensors")
        model = Transformer(model_config)
        restore(model, load_file(folder / "model.safetensors"))
    except SafetensorError as error:
        raise ValueError(
            f"{folder / 'model.safetensors'} can't be read ({error}); train or pull the model again"
        ) from error
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"{folder} mixes two models: the tokenizer has {tokenizer.vocab_size} tokens, the model "
            f"{model.config.vocab_size}; train or pull the model again"
        )
    return model.to(device).eval().requires_grad_(False), tokenizer, about


def _read_config(path: Path) -> dict[str, Any]:
    """Return the content of a model's config.json. Raises: ValueError for a broken file, or one of another program."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f"{path} can't be read; found {error}; train or pull the model again") from error
    if not isinstance(config, dict) or config.get("kind") != "minigpt":
        fields = ", ".join(f"{key} {config[key]!r:.60}" for key in ("kind", "model_type") if key in config)
        raise ValueError(
            f"{path} is not the configuration of a MiniGPT model; found {fields or f'{config!r:.60}'}; give a folder that this "
            "pipeline wrote"
        )
    return config


def _check_size(config: ModelConfig, path: Path) -> None:
    """Raise ValueError if the configuration has more parameters than the file has weights, before memory is allocated for them."""
    with safe_open(path, "pt") as file:
        n_weights = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no mapping)
    if config.n_parameters > n_weights:
        raise ValueError(
            f"{path} belongs to another model: it has {n_weights:,} weights, its config.json describes "
            f"{config.n_parameters:,} parameters; train or pull the model again"
        )


def _get_shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
