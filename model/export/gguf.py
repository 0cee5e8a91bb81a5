"""Export a model folder for llama.cpp and Ollama.

In: a folder that pretrain or sft wrote, with a BPE tokenizer. Out: one GGUF file, and next to it a Modelfile for `ollama create`.
Tensors are renamed and rounded, nothing else. q8_0 and q4_0 have the integers and scales that the assistant computes with in int8
and int4 (model.network.quantize: blocks of 32 weights with one fp16 scale; the tables of q4_0 are q8_0). q4_1 has a scale and a
minimum per block, 5 bits per weight, rounded by gguf's own quantizer. Vectors stay f32. Memory: the model once. A partial export
never appears under the target's name.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.export.hf import check_absent, rename_tensor
from model.network.config import ModelConfig
from model.network.folder import get_model_tensors, load_model
from model.network.quantize import check_widths, choose_bits, is_wide_table, quantize, to_gguf_blocks
from model.tokenizer.autotokenizer import CHAT_TEMPLATE
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

# Our tensor names → GGUF's for Qwen3; `{}` is the layer.
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
FILE_TYPES = {
    "f32": "ALL_F32",
    "f16": "MOSTLY_F16",
    "q8_0": "MOSTLY_Q8_0",
    "q4_0": "MOSTLY_Q4_0",
    "q4_1": "MOSTLY_Q4_1",
}
GGUF_TYPES = tuple(FILE_TYPES)
# A substring that is in one split pattern of model.tokenizer.tokenizer only → llama.cpp's name for that pattern.
GGUF_PATTERNS = {r"\p{N}{1,3}": "llama-bpe", r"|\p{N}|": "qwen2", "": "gpt-2"}

# The chat template for Ollama, in Go's template language. A tool call is content here: <|call|>name("argument").
GO_TEMPLATE = "<|bos|>{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>"
OLLAMA_PATTERN = "qwen2"  # the split pattern that Ollama uses for every qwen3 model, whatever the file declares


def export_gguf(source: Path, target: Path, kind: str = "f16") -> None:
    """Write the file `target` and its Modelfile; `kind` is one of GGUF_TYPES.

    Raises: ValueError for a folder without a model, a target or Modelfile that exists, a tokenizer without BPE merges, or rows
    that can't be divided into blocks of 32.
    """
    gguf = _import_gguf()
    if kind not in GGUF_TYPES:
        raise ValueError(f"--type is unknown; found {kind!r}; use one of {', '.join(GGUF_TYPES)}.")
    model, tokenizer, _ = load_model(source)
    config = model.config
    if kind.startswith("q"):
        check_widths(kind, config, "export f16.")
    description = json.loads(tokenizer.text)["model"]
    if not description.get("merges"):
        raise ValueError(
            f"gguf needs a byte-level BPE tokenizer (train_tokenizer.kind: bpe); found type {description['type']} without merges; "
            "export hf instead."
        )
    modelfile = get_modelfile_path(target)
    for path in (target, modelfile):
        check_absent(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    writer = gguf.GGUFWriter(str(partial), "qwen3")
    _write_metadata(writer, gguf, config, tokenizer, kind)
    for name, tensor in get_model_tensors(model).items():
        values, raw_type = _round_tensor(gguf, name, tensor.float().contiguous().numpy(), kind)
        writer.add_tensor(rename_tensor(name, GGUF_NAMES), values, raw_dtype=raw_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    modelfile.write_text(format_modelfile(target.name, config, get_pretokenizer_name(tokenizer)), encoding="utf-8")
    partial.rename(target)


def get_modelfile_path(target: Path) -> Path:
    """Return minigpt.Modelfile for minigpt.gguf, in the same folder."""
    return target.with_name(f"{target.stem}.Modelfile")


def format_modelfile(weights: str, config: ModelConfig, pattern: str) -> str:
    """Return what `ollama create NAME -f` reads: the chat template, the context length and every token that ends an answer."""
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
            f"# Ollama splits text with the pattern {OLLAMA_PATTERN} for every model of this architecture. This model was trained",
            f"# with {pattern}, so its numbers are tokenized differently. For Ollama train with train_tokenizer.pattern: qwen2.",
        ]
    return "\n".join(lines) + "\n"


def _write_metadata(writer: Any, gguf: Any, config: ModelConfig, tokenizer: Tokenizer, kind: str) -> None:
    """Write what llama.cpp reads before the weights: sizes, vocabulary, merges and chat template."""
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
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[kind]])
    description = json.loads(tokenizer.text)
    tokens = {index: token for token, index in description["model"]["vocab"].items()}
    tokens |= {added["id"]: added["content"] for added in description["added_tokens"]}
    n_special = len(SPECIAL_TOKENS)
    token_list = [tokens.get(index, f"<|unused_{index}|>") for index in range(config.vocab_size)]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(get_pretokenizer_name(tokenizer))
    writer.add_token_list(token_list)
    writer.add_token_types([control if index < n_special else normal for index in range(config.vocab_size)])
    merges = description["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.get_special_id("bos"))
    writer.add_eos_token_id(tokenizer.get_special_id("end"))
    writer.add_pad_token_id(tokenizer.get_special_id("pad"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def get_pretokenizer_name(tokenizer: Tokenizer) -> str:
    """Return llama.cpp's name for the tokenizer's split pattern."""
    parts = json.loads(tokenizer.text)["pre_tokenizer"].get("pretokenizers", [])
    expression = "".join(part["pattern"]["Regex"] for part in parts if part["type"] == "Split")
    return next(name for piece, name in GGUF_PATTERNS.items() if piece in expression)


def _round_tensor(gguf: Any, name: str, weights: NDArray[np.float32], kind: str) -> tuple[NDArray[Any], Any]:
    """Return the values of a tensor as they are written, and the block type; None for a type that NumPy has."""
    if weights.ndim == 1 or kind == "f32":
        return weights, None
    if kind == "f16":
        return weights.astype(np.float16), None
    if kind == "q4_1" and not is_wide_table(name):
        raw_type = gguf.GGMLQuantizationType.Q4_1
        return gguf.quants.quantize(weights, raw_type), raw_type
    bits = choose_bits(name, "int4" if kind == "q4_0" else "int8")
    raw_type = gguf.GGMLQuantizationType.Q4_0 if bits == 4 else gguf.GGMLQuantizationType.Q8_0
    return to_gguf_blocks(quantize(weights, bits)), raw_type


def _import_gguf() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise ValueError(f'the gguf library is missing; found: {error}; pip install ".[export]".') from error
