"""Decoding with int8 weights against torch's dynamic int8, on one core; memory, speed and nats of every format.

The table has, for the default model or that of --model, and for --student: memory of the weights (a GGUF file's size but for some
100 kB of vocabulary), milliseconds to the first token after a prompt of up to 400, tokens per second, and with --shards the nats
per token of held-out text. Times are processor times of one core. torch rounds activations too, and its output projection stays
fp32, so logits are compared by their distance.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Result, Row, Work, compare
from benchmarks.serving.models import make_default_model
from model.data.batches import RowBatches, StreamRows, TokenStream
from model.inference.decoder import Decoder
from model.inference.generate import TorchPrefix
from model.inference.prefix import Prefix
from model.network.folder import load_model
from model.network.loss import compute_token_nats
from model.network.quantize import FORMATS, count_weight_bytes, round_weights
from model.network.transformer import Transformer
from pipeline.frame.errors import UserError

N_PROMPT = 400  # at most
TEXT_TOKENS = 10_000  # of held-out text
MAX_DISTANCE = 0.15  # of two int8 models' logits, as a share of their spread


def run(
    *, model: Path | None = None, student: Path | None = None, shards: Path | None = None, n_new: int = 100
) -> Result:
    """Return tokens per second of int8 weights; without `model` of the default model with random weights."""
    torch.set_num_threads(1)
    main = make_default_model() if model is None else load_model(model)[0]
    ours, peer = Decoder(main, weights="int8").new_prefix(), TorchPrefix(make_torch_int8(main))
    models = {"default" if model is None else str(model): main}
    if student is not None:
        models[str(student)] = load_model(student)[0]
    n_prompt = min(N_PROMPT, *(each.config.seq_len - n_new for each in models.values()))
    if n_prompt < 1:
        raise UserError("--n-new leaves no room for a prompt", f"{n_new} tokens", "give fewer than the windows have")
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(16, main.config.vocab_size, (n_prompt + n_new,), generator=generator).tolist()

    def details() -> Sequence[Row]:
        text = None if shards is None else read_text(shards, min(each.config.seq_len for each in models.values()))
        return [
            describe(name, each, weights, ids, n_prompt, text) for name, each in models.items() for weights in FORMATS
        ]

    return compare(
        Work(f"{n_new} tokens after a prompt of {n_prompt}", "tokens/s", n_new, "torch, dynamic int8"),
        lambda: feed(ours, ids, n_prompt),
        lambda: feed(peer, ids, n_prompt),
        is_same=lambda mine, other: float((mine - other).norm() / mine.norm()) < MAX_DISTANCE,
        details=details,
    )


def make_torch_int8(model: Transformer) -> Transformer:
    """Return the model with the linear layers that torch computes in int8, all but the output projection."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "head"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favor of a package of its own
        how = dict.fromkeys(linear, torch.ao.quantization.default_dynamic_qconfig)
        quantized: Any = torch.ao.quantization.quantize_dynamic(model, how)
    return quantized


def feed(prefix: Prefix, ids: Sequence[int], n_prompt: int) -> Tensor:
    """Compute one id at a time after the prompt, which only the first call for a prefix computes. Return the last logits."""
    logits = prefix.extend(ids[: n_prompt + 1])
    for n in range(n_prompt + 2, len(ids) + 1):
        logits = prefix.extend(ids[:n])
    return logits


def read_text(shards: Path, seq_len: int) -> tuple[RowBatches, int]:
    """Return rows of held-out text, and the id that begins a document."""
    stream = TokenStream(shards, "val")
    rows = StreamRows(stream, seq_len, mask_documents=True)
    return RowBatches([rows], batch_rows=1, seed=0), stream.bos_id


def describe(
    name: str, model: Transformer, weights: str, ids: Sequence[int], n_prompt: int, text: tuple[RowBatches, int] | None
) -> Row:
    """Return one row of the table."""
    decoder = Decoder(model, weights=weights)
    first, each = [], []
    for _ in range(3):
        prefix = decoder.new_prefix()
        started = time.process_time()
        prefix.extend(ids[:n_prompt])
        middle = time.process_time()
        feed(prefix, ids, n_prompt)
        first.append(middle - started)
        each.append((time.process_time() - middle) / (len(ids) - n_prompt))
    row: Row = {
        "model": name,
        "weights": weights,
        "M parameters": model.config.n_parameters / 1e6,
        "MB": count_weight_bytes(model.config, weights) / 1e6,
        "ms to first token": min(first) * 1e3,
        "tokens/s": 1 / min(each),
    }
    return row | ({"nats/token": measure_nats(round_weights(model, weights), *text)} if text else {})


@torch.no_grad()
def measure_nats(model: Transformer, rows: RowBatches, bos: int) -> float:
    """Return the mean nats of held-out tokens; models that are compared have the same tokenizer."""
    total, n = 0.0, 0
    for number in range(max(min(TEXT_TOKENS // rows.at(0).ids.numel(), rows.n_rows), 1)):
        batch = rows.at(number)
        nats = compute_token_nats(model(batch.ids, None, batch.documents), model.head.weight, batch.targets)
        is_scored = batch.targets != bos
        total, n = total + float(nats[is_scored].double().sum()), n + int(is_scored.sum())
    return total / n
