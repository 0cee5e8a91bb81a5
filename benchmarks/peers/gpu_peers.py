"""Run the peers of the GPU benchmark: nanochat's model and optimizer, and torchtitan's trainer on its 1B model.

nanochat trains in a loop like its own. In: a checkout and sizes. Out: tokens/s, FLOPs per token as the peer counts them,
memory. Each runs in its own process, with the checkout's .venv/bin/python if there is one. nanochat (92d63d4) was run this way
on a CPU; torchtitan (written against b5bcd76), which needs its own packages and a GPU, was not.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measure import run_python
from model.network.config import ModelConfig
from pipeline.frame.errors import UserError


@dataclass(frozen=True)
class PeerSpeed:
    """Hold what a peer reached."""

    name: str
    tokens_per_second: float
    flops_per_token: float
    memory_bytes: int


NANOCHAT = """
import json, sys, time, torch
from nanochat.gpt import GPT, GPTConfig
how = json.loads(sys.argv[1])
device = torch.device(how["device"])
with torch.device("meta"):
    model = GPT(GPTConfig(**how["model"]))
model.to_empty(device=device)
model.init_weights()
optimizer = model.setup_optimizer()
step_model = torch.compile(model, dynamic=False) if device.type == "cuda" else model
length, rows, micro = how["model"]["sequence_len"], how["batch_rows"], how["micro_rows"]
tokens = torch.randint(0, how["model"]["vocab_size"], (rows, length + 1), device=device)
started = 0.0
for step in range(how["warm"] + how["steps"]):
    if step == how["warm"]:
        started = time.perf_counter()
    for start in range(0, rows, micro):
        part = tokens[start : start + micro]
        loss = step_model(part[:, :-1].contiguous(), part[:, 1:].contiguous())
        (loss * micro / rows).backward()
    optimizer.step()
    model.zero_grad(set_to_none=True)
    loss.item()
if device.type == "cuda":
    torch.cuda.synchronize()
seconds = time.perf_counter() - started
memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
print(json.dumps({"rate": how["steps"] * rows * length / seconds, "flops": model.estimate_flops(), "memory": memory}))
"""


def nanochat(
    path: Path, config: ModelConfig, batch_rows: int, micro_rows: int, device: str, warm: int, steps: int
) -> PeerSpeed:
    """Run nanochat with as many layers, as wide, with heads of 128 and the attention windows of its recipe."""
    heads = max(config.d_model // 128, 1)
    model = {"sequence_len": config.seq_len, "vocab_size": config.vocab_size, "n_layer": config.n_layer}
    model |= {"n_head": heads, "n_kv_head": heads, "n_embd": config.d_model}
    how = {"model": model, "device": device, "warm": warm, "steps": steps}
    how |= {"batch_rows": batch_rows, "micro_rows": micro_rows or batch_rows}
    printed = run_python(["-c", NANOCHAT, json.dumps(how)], path, PYTHONPATH=str(path))
    found = json.loads(printed.strip().splitlines()[-1])
    return PeerSpeed("nanochat", found["rate"], found["flops"], found["memory"])


TORCHTITAN = """
from torchtitan.components.loss import ChunkedLossWrapper, CrossEntropyLoss
from torchtitan.config import CompileConfig, TrainingConfig
from torchtitan.models.common.config_utils import decoder_vocab_size
from torchtitan.models.llama3 import model_registry
from torchtitan.models.llama3.config_registry import llama3_debugmodel

def claim():
    config = llama3_debugmodel()
    config.model_spec = model_registry("1B")
    loss = CrossEntropyLoss.Config(global_vocab_size=decoder_vocab_size(config.model_spec))
    config.loss = ChunkedLossWrapper.Config(loss_fn=loss)
    config.training = TrainingConfig(
        num_tokens_per_microbatch_per_dp_rank={tokens}, max_context_length={length}, steps={steps}
    )
    config.compile = CompileConfig(enable=True)
    config.activation_checkpoint = None
    config.validator.enable = False
    config.checkpoint.enable = False
    return config
"""


def torchtitan(path: Path, micro_rows: int, seq_len: int, warm: int, steps: int) -> PeerSpeed:
    """Run torchtitan's trainer on its test text; the settings are a module that is written here."""
    with tempfile.TemporaryDirectory() as folder:
        text = TORCHTITAN.format(tokens=micro_rows * seq_len, length=seq_len, steps=warm + steps)
        (Path(folder) / "minigpt_claim.py").write_text(text, encoding="utf-8")
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "torchtitan.train"]
        command += ["--module", "minigpt_claim", "--config", "claim", "--dump-folder", folder]
        printed = run_python(command, path, PYTHONPATH=f"{path}{os.pathsep}{folder}")
    return read_torchtitan(printed, warm)


def read_torchtitan(log: str, warm: int) -> PeerSpeed:
    """Return the median after the first `warm` steps, with torchtitan's own FLOPs. Raises: `UserError` for another format."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    steps = re.findall(r"memory:\s*([\d.]+)GiB.*?tps:\s*([\d,]+)\s+tflops:\s*([\d,.]+)", plain)[warm:]
    if not steps:
        raise UserError(
            f"torchtitan: its log has no step after {warm}", plain[-500:], "check the version of the checkout"
        )
    rates = [float(rate.replace(",", "")) for _, rate, _ in steps]
    flops = [float(tflops.replace(",", "")) * 1e12 / rate for (_, _, tflops), rate in zip(steps, rates, strict=True)]
    memory = max(float(gibibytes) for gibibytes, _, _ in steps)
    return PeerSpeed("torchtitan 1B", median(rates), median(flops), round(memory * 2**30))
