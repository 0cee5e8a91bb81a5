"""Read the folder of a finished model without torch: its configuration, its weights as arrays, its tokenizer.

In: a folder that pretrain or sft wrote (model.network.folder). Out: checked values; everything that can be wrong with a folder is
refused here, before memory is allocated for it. Memory: the weights once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from model.network.config import ModelConfig
from model.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from model.network.transformer import Transformer

PARTS = ("config.json", "model.safetensors", "tokenizer.json")
Floats = NDArray[np.float32]


class ModelArrays(NamedTuple):
    """A model's sizes, and its weights by name; a tied head is omitted, because it is the embedding."""

    config: ModelConfig
    tensors: Mapping[str, Floats]


def read_model(folder: Path) -> tuple[ModelArrays, Tokenizer, dict[str, Any]]:
    """Return the weights, the tokenizer and the remaining fields of config.json. Raises: ValueError for a folder without a model,
    or whose files don't belong together."""
    config, about = read_config(folder)
    path = folder / "model.safetensors"
    try:
        check_size(config, path)
        with safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} can't be read ({error}); train or pull the model again") from error
    check_shapes(dict(list_shapes(config)), {name: tensor.shape for name, tensor in tensors.items()})
    return ModelArrays(config, tensors), load_tokenizer(folder, config), about


def take_arrays(model: Transformer) -> ModelArrays:
    """Return a model's weights as fp32 arrays; those in main memory are not copied."""
    tensors = {name: parameter.detach().float().cpu().numpy() for name, parameter in model.named_parameters()}
    return ModelArrays(model.config, tensors)


def read_config(folder: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the sizes and the remaining fields of a model's config.json. Raises: ValueError for a folder without a model, for a
    broken file, or for one of another program."""
    for name in PARTS:
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} is not a model folder: {name} is missing; give a folder that pretrain or sft wrote"
            )
    path = folder / "config.json"
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
    about = {key: config.pop(key) for key in ("kind", "phase") if key in config}
    return ModelConfig.from_dict(config), about


def load_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """Return the tokenizer of a model folder. Raises: ValueError for one with more tokens than the model has."""
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{folder} mixes two models: the tokenizer has {tokenizer.vocab_size} tokens, the model "
            f"{config.vocab_size}; train or pull the model again"
        )
    return tokenizer


def check_size(config: ModelConfig, path: Path) -> None:
    """Raise ValueError if the configuration has more parameters than the file has weights, before memory is allocated for them."""
    with safe_open(path, "np") as file:
        n_weights = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (no mapping)
    if config.n_parameters > n_weights:
        raise ValueError(
            f"{path} belongs to another model: it has {n_weights:,} weights, its config.json describes "
            f"{config.n_parameters:,} parameters; train or pull the model again"
        )


def check_shapes(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError if names or shapes of weights differ."""
    differing = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"the weights belong to another model: {name} has shape {found.get(name)} instead of {expected.get(name)} "
            f"({len(differing)} tensors differ); use the config.json they were saved with"
        )


def list_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of each weight, in the order of the model's parameters."""
    queries, keys = config.n_head * config.d_head, config.n_kv_head * config.d_head
    yield "embedding.weight", (config.vocab_size, config.d_model)
    for index in range(config.n_layer):
        layer = f"layers.{index}"
        yield f"{layer}.attention_norm.weight", (config.d_model,)
        yield f"{layer}.attention.query.weight", (queries, config.d_model)
        yield f"{layer}.attention.key.weight", (keys, config.d_model)
        yield f"{layer}.attention.value.weight", (keys, config.d_model)
        yield f"{layer}.attention.out.weight", (config.d_model, queries)
        yield f"{layer}.attention.query_norm.weight", (config.d_head,)
        yield f"{layer}.attention.key_norm.weight", (config.d_head,)
        yield f"{layer}.feed_forward_norm.weight", (config.d_model,)
        yield f"{layer}.feed_forward.gate.weight", (config.d_ff, config.d_model)
        yield f"{layer}.feed_forward.up.weight", (config.d_ff, config.d_model)
        yield f"{layer}.feed_forward.down.weight", (config.d_model, config.d_ff)
    yield "norm.weight", (config.d_model,)
    if not config.is_tied:
        yield "head.weight", (config.vocab_size, config.d_model)


def make_rope_arrays(config: ModelConfig) -> tuple[Floats, Floats]:
    """Return cosines and sines as model.network.transformer.make_rope_tables does, for the whole window."""
    exponents = np.arange(0, config.d_head, 2, dtype=np.float64) / config.d_head
    angles = np.arange(config.seq_len, dtype=np.float64)[:, None] * config.rope_theta**-exponents
    angles = np.concatenate((angles, angles), axis=-1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
