"""Training never synchronizes with the GPU inside a step: shown on torch's meta device, where reading a value fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.data.batches import Batch
from model.machine.distributed import World
from model.machine.hardware import find_compiler_problem
from model.network.transformer import Transformer
from model.training.compute import TorchCompute
from model.training.loop import train
from model.training.optim import Optimizer, OptimSettings
from tests.model.conftest import TINY, awake
from tests.model.training.test_activation_checkpointing import COUNT, make_batch
from tests.model.training.test_loop import ROOT, make_batches, make_settings

META = torch.device("meta")
clip = nn.utils.clip_grad_norm_


@pytest.fixture(autouse=True)
def _clip_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device has no fused clipping."""
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda parameters, limit, foreach: clip(parameters, limit))


def make_partly_scored_batch() -> Batch:
    whole = make_batch()
    targets = whole.targets.clone()
    targets[:, ::3] = -100
    return whole._replace(targets=targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "part", [make_batch(False), make_batch(), make_partly_scored_batch()], ids=["plain", "documents", "scored"]
)
def test_passes_and_update_do_not_synchronize(dtype: torch.dtype, part: Batch) -> None:
    model = Transformer(TINY).to(META)
    compute = TorchCompute(model, dtype, use_compile=False, log=lambda text: None)
    optimizer = Optimizer(model, OptimSettings(weight_decay=0.1), muon_dtype=dtype)
    compute.update()
    nats = sum(compute.add_gradients(part, COUNT.to(META)) for _ in range(2))
    assert isinstance(nats, Tensor)
    assert (nats.shape, nats.dtype, nats.device) == ((), torch.float64, META)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert (parameter.grad.shape, parameter.grad.dtype) == (parameter.shape, torch.float32)
    optimizer.muon.step(1.0)  # torch's fused AdamW does not support the meta device
    with pytest.raises(RuntimeError, match="meta"):
        nats.item()


def test_a_training_step_synchronizes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads loss, number of targets and gradient norm together."""
    read_shapes: list[tuple[int, ...]] = []

    def values(tensor: Tensor) -> list[float]:
        read_shapes.append(tuple(tensor.shape))
        return [3.0, 64.0, 1.0]

    monkeypatch.setattr(Tensor, "tolist", values)
    monkeypatch.setattr("model.training.checkpoints.hash_file", lambda path: "")
    monkeypatch.setattr(Optimizer, "step", lambda optimizer, multiplier: optimizer.muon.step(multiplier))
    monkeypatch.setattr("model.training.loop._compute_fingerprint", lambda *things: "")
    monkeypatch.setattr("model.training.loop.Saver.save", lambda *things: None)
    records = train(
        Transformer(TINY),
        make_batches(tmp_path),
        settings=make_settings(total_steps=3, micro_rows=2, precision="bf16"),
        checkpoints=tmp_path / "run",
        world=World(device=META),
    )
    assert [record.loss_nats for record in records] == [3.0] * 3
    assert read_shapes == [(3,)] * 3


def test_micro_batches_add_up_to_the_batch() -> None:
    whole, halves = make_batch(), []
    for row in range(2):
        rows = slice(row, row + 1)
        assert whole.documents is not None
        halves.append(Batch(whole.ids[rows], whole.targets[rows], whole.documents[rows]))
    results = []
    for parts in ([whole], halves):
        model = awake()
        compute = TorchCompute(model, torch.float32, use_compile=False, log=lambda text: None)
        nats = sum(compute.add_gradients(part, COUNT) for part in parts)
        results.append([nats, *(parameter.grad for parameter in model.parameters())])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


COMPILED = """
import torch
from model.training.activation_checkpointing import get_layer_runner
from model.training.compute import TorchCompute
from tests.model.conftest import awake
from tests.model.training.test_activation_checkpointing import COUNT
from tests.model.training.test_compute import make_partly_scored_batch
torch.set_num_threads(1)
results = []
for use_compile in (False, True):
    messages, model = [], awake()
    compute = TorchCompute(model, torch.bfloat16, use_compile=use_compile, log=messages.append)
    compute.copy.model.run_layer = get_layer_runner("selective")
    compute.chunk_tokens = 20  # two chunks of 20 for 32 targets
    compute.update()
    nats = [compute.add_gradients(make_partly_scored_batch(), COUNT).item() for _ in range(2)]
    assert compute.is_compiled == use_compile, messages
    results.append((nats, [parameter.grad for parameter in model.parameters()]))
(plain, expected), (nats, grads) = results
assert abs(nats[0] - plain[0]) < 0.01 * plain[0], (nats, plain)
for mine, other in zip(grads, expected, strict=True):
    assert (mine - other).norm() < 0.05 * other.norm()
print("equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(find_compiler_problem("cpu") is not None, reason="torch.compile can't build anything here")
def test_compiled_equals_plain() -> None:
    """What a GPU runs, compiled for the CPU: document masks, partly scored targets, activation checkpointing; equal up to bf16
    rounding. In a subprocess without the shape-checking import hook."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    completed = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert completed.stdout.strip() == "equal", completed.stderr[-3000:]
