"""Save and load the folder of an adapter: peft's files, and a statement of the base that it belongs to. No pickles.

In: an adapter and its base. Out: adapter_model.safetensors and adapter_config.json as peft writes them for our export to
transformers (model/export/hf.py), so that peft loads the folder onto that; and minigpt_adapter.json with the SHA-256 of the base's
weights, of its tokenizer and of both files. Covers: an adapter on another base, a folder that was copied in part or changed: both
are refused with what was found. Does not cover: adapters that peft has trained, which state no base.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.network.folder import load_model, save_model
from model.network.hashes import hash_file
from model.network.lora import TARGETS, AdaptedModel, LoraAdapter, LoraSettings, find_targets, hash_weights
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer

WEIGHTS, CONFIG, STATEMENT = "adapter_model.safetensors", "adapter_config.json", "minigpt_adapter.json"
HF_MODULES = {  # our names of the adapted matrices → those of Qwen3's modules in transformers
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
PARTS = {"a": "lora_A.weight", "b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def save_adapter(folder: Path, adapted: AdaptedModel, tokenizer: Tokenizer) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    adapter = adapted.adapter
    names = make_hf_names(adapter)
    tensors = {names[name]: p.detach().float().cpu().contiguous() for name, p in adapter.named_parameters()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    _write_json(folder / CONFIG, make_peft_config(adapter.settings))
    statement = {
        "kind": "minigpt-adapter",
        "base_sha256": adapted.base_sha256,
        "tokenizer_sha256": tokenizer.sha256,
        "files": {name: hash_file(folder / name) for name in (WEIGHTS, CONFIG)},
    }
    _write_json(folder / STATEMENT, statement)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def make_peft_config(settings: LoraSettings) -> dict[str, Any]:
    """Return the fields of peft's LoraConfig; the base is the folder that `python -m model.export hf` has written."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "target_modules": [HF_MODULES[name].rpartition(".")[2] for name in settings.targets],
        "use_rslora": settings.kind == "rslora",
        "use_dora": settings.kind == "dora",
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def read_settings(config: Mapping[str, Any]) -> LoraSettings:
    """Return the settings that adapter_config.json states. Raises: ValueError, KeyError for what we can't have written."""
    modules = {name.rpartition(".")[2]: ours for ours, name in HF_MODULES.items()}
    kind = "dora" if config["use_dora"] else "rslora" if config["use_rslora"] else "lora"
    targets = tuple(modules[name] for name in config["target_modules"])
    return LoraSettings(kind=kind, rank=config["r"], alpha=config["lora_alpha"], targets=targets)


def make_hf_names(adapter: LoraAdapter) -> dict[str, str]:
    """Return peft's name of each of an adapter's parameters."""
    names: dict[str, str] = {}
    for key in adapter.matrices:
        _, layer, place = key.split("_", 2)
        ours = next(name for name, path in TARGETS.items() if path.replace(".", "_") == place)
        module = f"base_model.model.model.layers.{layer}.{HF_MODULES[ours]}"
        names |= {f"matrices.{key}.{part}": f"{module}.{hf}" for part, hf in PARTS.items()}
    return names


def load_adapter(folder: Path, model: Transformer, tokenizer: Tokenizer) -> LoraAdapter:
    """Return the adapter in a folder, for its base `model`.

    Raises: ValueError for a folder that is incomplete, was changed or is not ours, and for another base.
    """
    statement = _read_statement(folder)
    for what, stated, found in (
        ("weights", statement.get("base_sha256"), hash_weights(model)),
        ("tokenizer", statement.get("tokenizer_sha256"), tokenizer.sha256),
    ):
        if stated != found:
            raise ValueError(
                f"the adapter in {folder} was trained on another base; found {what} with SHA-256 {found[:12]}…, it needs "
                f"{str(stated)[:12]}…; load it on the model that it was trained on, or train it again on this one."
            )
    try:
        settings = read_settings(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        adapter = LoraAdapter(model, settings)
        names, tensors = make_hf_names(adapter), load_file(folder / WEIGHTS)
        _restore(adapter, {name: tensors.get(names[name]) for name, _ in adapter.named_parameters()})
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"the adapter in {folder} can't be read; found {error!r}; train or copy it again.") from error
    return adapter


@torch.no_grad()
def _restore(adapter: LoraAdapter, tensors: Mapping[str, Tensor | None]) -> None:
    for name, parameter in adapter.named_parameters():
        tensor = tensors[name]
        if tensor is None or tensor.shape != parameter.shape:
            raise KeyError(name)
        parameter.copy_(tensor)


def _read_statement(folder: Path) -> Mapping[str, Any]:
    """Return the content of minigpt_adapter.json, after both files were compared with it."""
    again = "copy the whole folder again, or name one that sft has written with sft.adapter"
    for name in (STATEMENT, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not an adapter's folder; found no {name} in it; {again}.")
    try:
        statement: dict[str, Any] = json.loads((folder / STATEMENT).read_text(encoding="utf-8"))
        files: dict[str, str] = statement["files"]
        changed = [name for name in (WEIGHTS, CONFIG) if hash_file(folder / name) != files[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / STATEMENT} can't be read; found {error!r}; {again}.") from error
    if changed:
        raise ValueError(f"the adapter in {folder} is damaged; found another SHA-256 of {changed[0]}; {again}.")
    return statement


def load_adapted_model(
    base: Path, adapter: Path, *, device: torch.device | str = "cpu"
) -> tuple[Transformer, Tokenizer, dict[str, Any]]:
    """Return a base with an adapter merged into its weights, as `load_model` returns a model. Raises: ValueError."""
    model, tokenizer, about = load_model(base)
    AdaptedModel(model, load_adapter(adapter, model, tokenizer)).write_weights()
    return model.to(device), tokenizer, {**about, "phase": "sft"}


def merge_adapter(base: Path, adapter: Path, target: Path) -> None:
    """Write base and adapter as one model folder. Raises: ValueError, also for a target that exists."""
    model, tokenizer, about = load_adapted_model(base, adapter)
    if target.exists():
        raise ValueError(f"the target of a merge must not exist; found {target}; remove it or name another.")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_model(partial, model, tokenizer, phase=about["phase"])
    partial.rename(target)


def describe_adapter(adapter: LoraAdapter, model: Transformer) -> str:
    """Return a line about an adapter: kind, rank, matrices and the share of the weights."""
    settings = adapter.settings
    n_matrices = len(find_targets(model, settings))
    share = adapter.n_parameters / model.config.n_parameters
    return (
        f"{settings.kind} of rank {settings.rank} on {n_matrices} matrices: {adapter.n_parameters} weights, {share:.1%}"
    )
