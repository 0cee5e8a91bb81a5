"""Export a model folder for llama.cpp and Ollama.

In: a folder that pretrain or sft wrote, with a BPE tokenizer. Out: one GGUF file in f32, f16 or q8_0 (blocks of 32 8-bit weights
that share one scale; vectors stay f32), and next to it a Modelfile for `ollama create`. Tensors are renamed and rounded, nothing
else. Memory: the model once. A partial export never appears under the target's name.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.export.hf import check_absent, rename_tensor
from model.network.config import ModelConfig
from model.network.folder import get_model_tensors, load_model
from model.network.transformer import Transformer
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
GGUF_TYPES = ("f32", "f16", "q8_0")
# A substring that is in one split pattern of model.tokenizer.tokenizer only → llama.cpp's name for that pattern.
GGUF_PATTERNS = {r"\p{N}{1,3}": "llama-bpe", r"|\p{N}|": "qwen2", "": "gpt-2"}

# The chat template for Ollama, in Go's template language. A tool call is content here: <|call|>name("argument").
GO_TEMPLATE = "<|bos|>{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>"
OLLAMA_PATTERN = "qwen2"  # the split pattern that Ollama uses for every qwen3 model, whatever the file declares


def export_gguf(source: Path, target: Path, kind: str = "f16") -> None:
    """Write the file `target` and its Modelfile; `kind` is one of GGUF_TYPES.

    Raises: ValueError for a folder without a model, a target or Modelfile that exists, a tokenizer without BPE merges, or rows
    that q8_0 can't divide into blocks of 32.
    """
    gguf = _import_gguf()
    if kind not in GGUF_TYPES:
        raise ValueError(f"--type is unknown; found {kind!r}; use one of {', '.join(GGUF_TYPES)}.")
    model, tokenizer, _ = load_model(source)
    config = model.config
    if kind == "q8_0" and (config.d_model % 32 or config.d_ff % 32):
        raise ValueError(
            f"q8_0 needs model.d_model and model.d_ff to be multiples of 32; found {config.d_model} and {config.d_ff}; "
            "export f16."
        )
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
    for name, weights in _iterate_tensors(model):
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
    file_types = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(gguf.LlamaFileType[file_types[kind]])
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


def _iterate_tensors(model: Transformer) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, tensor in get_model_tensors(model).items():
        yield rename_tensor(name, GGUF_NAMES), tensor.float().contiguous().numpy()


def _import_gguf() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise ValueError(f'the gguf library is missing; found: {error}; pip install ".[export]".') from error
