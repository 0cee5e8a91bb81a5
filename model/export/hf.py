"""Export a model folder for transformers and vLLM.

In: a folder that pretrain or sft wrote. Out: a folder that loads as Qwen3ForCausalLM: fp32 weights, configuration, tokenizer and
chat template. Tensors are only renamed, so logits are equal within rounding. Memory: the model once. A partial export never
appears under the target's name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from model.network.config import ModelConfig
from model.network.folder import get_model_tensors, load_model
from model.tokenizer.autotokenizer import save_tokenizer
from model.tokenizer.tokenizer import Tokenizer

# Our tensor names → Qwen3's in transformers; `{}` is the layer.
HF_NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
    "attention_norm.weight": "model.layers.{}.input_layernorm.weight",
    "attention.query.weight": "model.layers.{}.self_attn.q_proj.weight",
    "attention.key.weight": "model.layers.{}.self_attn.k_proj.weight",
    "attention.value.weight": "model.layers.{}.self_attn.v_proj.weight",
    "attention.out.weight": "model.layers.{}.self_attn.o_proj.weight",
    "attention.query_norm.weight": "model.layers.{}.self_attn.q_norm.weight",
    "attention.key_norm.weight": "model.layers.{}.self_attn.k_norm.weight",
    "feed_forward_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "feed_forward.gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "feed_forward.up.weight": "model.layers.{}.mlp.up_proj.weight",
    "feed_forward.down.weight": "model.layers.{}.mlp.down_proj.weight",
}


def export_hf(source: Path, target: Path) -> None:
    """Write the folder `target`. Raises: ValueError for a folder without a model, or a target that exists."""
    model, tokenizer, _ = load_model(source)
    check_absent(target)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {
        rename_tensor(name, HF_NAMES): tensor.float().contiguous() for name, tensor in get_model_tensors(model).items()
    }
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(partial, tokenizer, model.config.seq_len)
    files: dict[str, object] = {
        "config.json": make_hf_config(model.config, tokenizer),
        "generation_config.json": {
            "bos_token_id": tokenizer.get_special_id("bos"),
            "eos_token_id": tokenizer.get_special_id("end"),
            "pad_token_id": tokenizer.get_special_id("pad"),
            "do_sample": False,
        },
    }
    for name, values in files.items():
        (partial / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    partial.rename(target)


def make_hf_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, object]:
    """Return config.json of a Qwen3ForCausalLM, in the form that transformers 4 and 5 read."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.d_head,
        "max_position_embeddings": config.seq_len,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.is_tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "torch_dtype": "float32",
        "bos_token_id": tokenizer.get_special_id("bos"),
        "eos_token_id": tokenizer.get_special_id("end"),
        "pad_token_id": tokenizer.get_special_id("pad"),
    }


def rename_tensor(name: str, names: dict[str, str]) -> str:
    """Return the name that the table `names` gives to one of our tensors, such as `layers.3.attention.query.weight`."""
    if name.startswith("layers."):
        _, layer, rest = name.split(".", 2)
        return names[rest].format(layer)
    return names[name]


def check_absent(target: Path) -> None:
    if target.exists():
        raise ValueError(f"the target of an export must not exist; found {target}; remove it or name another.")
