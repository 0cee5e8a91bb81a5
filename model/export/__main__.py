"""python -m model.export hf MODEL FOLDER | gguf MODEL FILE: a model folder as other programs read it.

In: a folder that pretrain or sft wrote. Out, `hf`: a folder that transformers and vLLM load as Qwen3ForCausalLM, with tokenizer and
chat template, weights in fp32; the same logits within rounding. Out, `gguf`: one file for llama.cpp and Ollama, as f32, f16 or
q8_0 (blocks of 32 weights of 8 bits with one scale; vectors stay f32), beside it a Modelfile for `ollama create`. Both are
renamings: no weight is changed but by rounding. How to serve them: docs/serving.md. Memory: the model once. A half-written
export never shows under its name.

One thing does not travel: other programs look for special tokens in whatever text they are given, so there a person who types
<|end|> ends a turn, unless they are told not to (model/tokenizer/autotokenizer.py says how). model.tokenizer.chat encodes outside text as ordinary
text; a service of ours should be asked through it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

from model.network.config import ModelConfig
from model.network.folder import get_model_tensors, load_model
from model.network.transformer import Transformer
from model.tokenizer.autotokenizer import CHAT_TEMPLATE, save_tokenizer
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

# Our names → Qwen3's in transformers, and in GGUF; `{}` is the layer.
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
GGUF_NAMES = {
    "embedding.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "head.weight": "output.weight",
    "attention_norm.weight": "blk.{}.attn_norm.weight",
    "attention.query.weight": "blk.{}.attn_q.weight",
    "attention.key.weight": "blk.{}.attn_k.weight",
    "attention.value.weight": "blk.{}.attn_v.weight",
    "attention.out.weight": "blk.{}.attn_output.weight",
    "attention.query_norm.weight": "blk.{}.attn_q_norm.weight",
    "attention.key_norm.weight": "blk.{}.attn_k_norm.weight",
    "feed_forward_norm.weight": "blk.{}.ffn_norm.weight",
    "feed_forward.gate.weight": "blk.{}.ffn_gate.weight",
    "feed_forward.up.weight": "blk.{}.ffn_up.weight",
    "feed_forward.down.weight": "blk.{}.ffn_down.weight",
}
GGUF_TYPES = ("f32", "f16", "q8_0")
# What llama.cpp calls the split patterns of model.tokenizer.tokenizer, by a piece that only one of them has.
GGUF_PATTERNS = {r"\p{N}{1,3}": "llama-bpe", r"|\p{N}|": "qwen2", "": "gpt-2"}

# The same for Ollama, in Go's template language. A call is content here: <|call|>name("argument").
GO_TEMPLATE = "<|bos|>{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>"
OLLAMA_PATTERN = "qwen2"  # how Ollama splits text for every qwen3 model, whatever the file says


def export_hf(source: Path, target: Path) -> None:
    """Raises: ValueError for a folder that holds no model, or a target that is there already."""
    model, tokenizer, _ = load_model(source)
    _check_free(target)
    half = target.with_name(target.name + ".partial")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    tensors = {
        renamed(name, HF_NAMES): tensor.float().contiguous() for name, tensor in get_model_tensors(model).items()
    }
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(half, tokenizer, model.config.seq_len)
    files: dict[str, object] = {
        "config.json": hf_config(model.config, tokenizer),
        "generation_config.json": {
            "bos_token_id": tokenizer.get_special_id("bos"),
            "eos_token_id": tokenizer.get_special_id("end"),
            "pad_token_id": tokenizer.get_special_id("pad"),
            "do_sample": False,
        },
    }
    for name, values in files.items():
        (half / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    half.rename(target)


def hf_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, object]:
    """config.json of Qwen3ForCausalLM, readable by transformers 4 and 5."""
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


def export_gguf(source: Path, target: Path, kind: str = "f16") -> None:
    """Raises: ValueError for a folder that holds no model, a target that is there, or rows that q8_0 can't cut into blocks."""
    gguf = _gguf()
    if kind not in GGUF_TYPES:
        raise ValueError(f"--type is unknown; found {kind!r}; choose one of {', '.join(GGUF_TYPES)}.")
    model, tokenizer, _ = load_model(source)
    config = model.config
    if kind == "q8_0" and (config.d_model % 32 or config.d_ff % 32):
        raise ValueError(
            f"q8_0 needs model.d_model and model.d_ff to be multiples of 32; found {config.d_model} and {config.d_ff}; "
            "export f16."
        )
    described = json.loads(tokenizer.text)["model"]
    if not described.get("merges"):
        raise ValueError(
            f"gguf needs a tokenizer with merges of bytes (train_tokenizer.kind: bpe); found one of type {described['type']} "
            "without; export hf."
        )
    beside = modelfile_of(target)
    for path in (target, beside):
        _check_free(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(target.name + ".partial")
    writer = gguf.GGUFWriter(str(half), "qwen3")
    _describe(writer, gguf, config, tokenizer, kind)
    for name, weights in _gguf_tensors(model):
        as_type = "f32" if weights.ndim == 1 else kind
        if as_type == "q8_0":
            quantized = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, weights.astype(np.float16) if as_type == "f16" else weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    beside.write_text(modelfile(target.name, config, split_name(tokenizer)), encoding="utf-8")
    half.rename(target)


def modelfile_of(target: Path) -> Path:
    """minigpt.gguf → minigpt.Modelfile, in the same folder."""
    return target.with_name(f"{target.stem}.Modelfile")


def modelfile(weights: str, config: ModelConfig, pattern: str) -> str:
    """What `ollama create NAME -f` reads: our turns, our window, and every token that ends an answer of ours."""
    stops = [token for token in SPECIAL_TOKENS if token != "<|call|>" and not token.startswith("<|spare_")]
    lines = [
        f"FROM ./{weights}",
        f'TEMPLATE """{GO_TEMPLATE}"""',
        f"PARAMETER num_ctx {config.seq_len}",
        "PARAMETER temperature 0",
    ]
    lines += [f'PARAMETER stop "{token}"' for token in stops]
    if pattern != OLLAMA_PATTERN:
        lines[:0] = [
            f"# Ollama cuts text for every model of this kind as {OLLAMA_PATTERN} does; this one knows it cut as {pattern} does,",
            "# so numbers reach it in pieces that it never saw. For Ollama train with train_tokenizer.pattern: qwen2.",
        ]
    return "\n".join(lines) + "\n"


def renamed(name: str, names: dict[str, str]) -> str:
    """`layers.3.attention.query.weight` → that table's name of it."""
    if name.startswith("layers."):
        _, layer, rest = name.split(".", 2)
        return names[rest].format(layer)
    return names[name]


def _describe(writer: Any, gguf: Any, config: ModelConfig, tokenizer: Tokenizer, kind: str) -> None:
    """Sizes, vocabulary, merges and chat template: what llama.cpp reads before the weights."""
    writer.add_name("minigpt")
    writer.add_context_length(config.seq_len)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_key_length(config.d_head)
    writer.add_value_length(config.d_head)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    file_types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[file_types[kind]])
    description = json.loads(tokenizer.text)
    tokens = {index: token for token, index in description["model"]["vocab"].items()}
    tokens |= {added["id"]: added["content"] for added in description["added_tokens"]}
    n_special = len(SPECIAL_TOKENS)
    missing = [tokens.get(index, f"<|unused_{index}|>") for index in range(config.vocab_size)]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split_name(tokenizer))
    writer.add_token_list(missing)
    writer.add_token_types([control if index < n_special else normal for index in range(config.vocab_size)])
    merges = description["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.get_special_id("bos"))
    writer.add_eos_token_id(tokenizer.get_special_id("end"))
    writer.add_pad_token_id(tokenizer.get_special_id("pad"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def split_name(tokenizer: Tokenizer) -> str:
    """llama.cpp's word for how this tokenizer cuts text before merging."""
    parts = json.loads(tokenizer.text)["pre_tokenizer"].get("pretokenizers", [])
    expression = "".join(part["pattern"]["Regex"] for part in parts if part["type"] == "Split")
    return next(name for piece, name in GGUF_PATTERNS.items() if piece in expression)


def _gguf_tensors(model: Transformer) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, tensor in get_model_tensors(model).items():
        yield renamed(name, GGUF_NAMES), tensor.float().contiguous().numpy()


def _check_free(target: Path) -> None:
    if target.exists():
        raise ValueError(f"{target} is there already; found something that an export would replace; remove it first.")


def _gguf() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise ValueError(f'the gguf library is missing; found: {error}; pip install ".[export]".') from error


def main(argv: list[str] | None = None) -> int:
    """Exports once and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m model.export", description="Write a model as other programs read it."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    folder = kinds.add_parser("hf", help="a folder for transformers and vLLM")
    file = kinds.add_parser("gguf", help="a file for llama.cpp and Ollama")
    for kind, what in ((folder, "FOLDER"), (file, "FILE")):
        kind.add_argument(
            "model", type=Path, metavar="MODEL", help="a folder that pretrain or sft wrote, e.g. data/sft"
        )
        kind.add_argument("target", type=Path, metavar=what, help="what to write; must not be there yet")
    file.add_argument("--type", choices=GGUF_TYPES, default="f16", help="how weights are stored (default: f16)")
    args = parser.parse_args(argv)
    try:
        if args.kind == "hf":
            export_hf(args.model, args.target)
        else:
            export_gguf(args.model, args.target, args.type)
            print(f"wrote {modelfile_of(args.target)}")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
