"""Run minimind's pretraining recipe for a given time in a checkout; training/five_minutes.py starts it.

python train_minimind.py TRAIN.jsonl VAL.jsonl SECONDS prints a JSON object with nats and bytes of the held-out texts. As in
minimind's trainer/train_pretrain.py: its model and tokenizer, one text per row, truncated and padded to 340 tokens, 32 rows,
AdamW at 5e-4 with a cosine decay to a tenth, norm clipped at 1. Its eight accumulation steps would leave 30 updates in five
minutes on a CPU, so every step updates here.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROWS, TOKENS, RATE, SIZE = 32, 340, 5e-4, {"hidden_size": 192, "num_hidden_layers": 4, "flash_attn": True}


def read_texts(path: str) -> list[str]:
    """Read the texts of a JSON lines file."""
    return [json.loads(line)["text"] for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def make_batch(tokenizer: Any, part: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return padded ids and labels; padding is masked in the labels."""
    ids = torch.full((len(part), TOKENS), tokenizer.pad_token_id)
    labels = torch.full((len(part), TOKENS), -100)
    cut = tokenizer(part, add_special_tokens=False, max_length=TOKENS - 2, truncation=True).input_ids
    for row, found in enumerate(cut):
        whole = torch.tensor([tokenizer.bos_token_id, *found, tokenizer.eos_token_id])
        ids[row, : len(whole)] = labels[row, : len(whole)] = whole
    return ids, labels


def main(train: str, val: str, seconds: float) -> None:
    """Train for the given time, evaluate, and print the result."""
    sys.path.insert(0, str(Path.cwd()))
    from model.model_minimind import MiniMindConfig, MiniMindForCausalLM
    from transformers import AutoTokenizer

    torch.manual_seed(42)
    tokenizer = AutoTokenizer.from_pretrained("model")
    model = MiniMindForCausalLM(MiniMindConfig(**SIZE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    corpus = read_texts(train)
    order = torch.randperm(len(corpus)).tolist()
    started, step = time.perf_counter(), 0
    while (spent := (time.perf_counter() - started) / seconds) < 1:
        for group in optimizer.param_groups:  # by time: the number of steps is not known in advance
            group["lr"] = RATE * (0.1 + 0.45 * (1 + math.cos(math.pi * spent)))
        rows = [corpus[order[i % len(order)]] for i in range(step * ROWS, (step + 1) * ROWS)]
        ids, labels = make_batch(tokenizer, rows)
        found = model(ids, labels=labels)
        (found.loss + found.aux_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
    nats, n_bytes = evaluate(model.eval(), tokenizer, read_texts(val))
    size = sum(p.numel() for p in model.parameters())
    print(json.dumps({"nats": nats, "bytes": n_bytes, "steps": step, "parameters": size}))


@torch.no_grad()
def evaluate(model: Any, tokenizer: Any, held_out: list[str]) -> tuple[float, int]:
    """Return (nats, bytes) of the texts' own tokens, without the end-of-text token."""
    nats, n_bytes = 0.0, 0
    for start in range(0, len(held_out), ROWS):
        ids, labels = make_batch(tokenizer, held_out[start : start + ROWS])
        labels[labels == tokenizer.eos_token_id] = -100
        logits = model(ids).logits[:, :-1].float()
        nats += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"))
        for row in labels[:, 1:]:
            n_bytes += len(tokenizer.decode(row[row != -100]).encode())
    return nats, n_bytes


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
