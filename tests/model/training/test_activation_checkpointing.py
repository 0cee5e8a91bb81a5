"""Activation checkpointing changes memory and time, but not one bit of the gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.data.batches import Batch
from model.network.transformer import Transformer
from model.training.activation_checkpointing import KINDS, Kind, get_layer_runner
from model.training.compute import TorchCompute, choose_compute
from model.training.optim import get_grad
from tests.model.conftest import TINY, awake
from tests.model.training.test_loop import ROOT

COUNT = torch.tensor(48.0, dtype=torch.float64)


def make_batch(documents: bool = True) -> Batch:
    tokens = torch.randint(0, TINY.vocab_size, (2, 25), generator=torch.Generator().manual_seed(3))
    return Batch(tokens[:, :-1], tokens[:, 1:], (tokens[:, :-1] < 30).cumsum(1) if documents else None)


def compute_gradients(kind: Kind, dtype: torch.dtype, documents: bool) -> list[Tensor]:
    model = awake()
    compute = TorchCompute(model, dtype, use_compile=False, log=lambda text: None)
    compute.copy.model.run_layer = get_layer_runner(kind)
    compute.update()
    nats = compute.add_gradients(make_batch(documents), COUNT)
    return [nats, *map(get_grad, model.parameters())]


@pytest.mark.parametrize("kind", ["selective", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("documents", [False, True])
def test_gradients_are_bit_identical(kind: Kind, dtype: torch.dtype, documents: bool) -> None:
    stored, recomputed = (compute_gradients(each, dtype, documents) for each in ("none", kind))
    assert all(torch.equal(a, b) for a, b in zip(stored, recomputed, strict=True))


class Products(TorchDispatchMode):
    """Counts matrix products and attention operators."""

    def __init__(self) -> None:
        super().__init__()
        self.products = self.attentions = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.products += function is torch.ops.aten.mm.default
        self.attentions += function is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        return function(*args, **(kwargs or {}))


def test_selective_recomputes_no_product_and_full_all_but_the_last() -> None:
    counts = {}
    for kind in KINDS:
        model = awake()
        model.run_layer = get_layer_runner(kind)
        with Products() as counted:
            model(make_batch().ids).sum().backward()
        counts[kind] = (counted.products, counted.attentions)
    n = TINY.n_layer
    assert counts["none"] == (7 * 3 * n, n)
    assert counts["selective"] == counts["none"]
    assert counts["full"] == (7 * 3 * n + 6 * n, 2 * n)  # the output of the last product of a layer is not needed


def test_evaluation_recomputes_nothing() -> None:
    model = awake()
    expected = model(make_batch().ids).detach()
    for kind in KINDS:
        model.run_layer = get_layer_runner(kind)
        with torch.no_grad():
            assert torch.equal(model(make_batch().ids), expected)


def test_unknown_kind_is_rejected() -> None:
    with pytest.raises(ValueError, match="none, selective, full"):
        get_layer_runner("some")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("problem", [None, "broken"])
def test_cpu_kernels_log_that_they_keep_all_activations(problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.compute.find_kernel_problem", lambda: problem)
    monkeypatch.setattr("model.training.compute.KernelCompute", lambda model: "kernels")
    messages: list[str] = []
    model = Transformer(TINY)
    compute = choose_compute(
        model,
        precision="bf16",
        use_kernels=True,
        use_compile=False,
        log=messages.append,
        activation_checkpointing="full",
    )
    assert (compute == "kernels") == (problem is None)
    assert any("activation checkpointing is not used" in text for text in messages) == (problem is None)


COMPILED = """
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from model.training.activation_checkpointing import get_layer_runner
from tests.model.training.test_activation_checkpointing import make_batch
from tests.model.conftest import awake
results = {}
for kind in ("none", "selective", "full"):
    torch.compiler.reset()
    model = awake()
    model.run_layer = get_layer_runner(kind)
    counter = CompileCounterWithBackend("aot_eager_decomp_partition")
    hidden = torch.compile(model.forward, backend=counter, fullgraph=True)(make_batch().ids, None, make_batch().documents)
    assert counter.frame_count == 1
    kept = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in hidden.grad_fn.saved_tensors}
    for tensor in (*model.parameters(), *model.buffers()):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    hidden.sum().backward()
    results[kind] = sum(kept.values()), [p.grad for p in model.parameters() if p.grad is not None]
for kind in ("selective", "full"):
    for mine, other in zip(results[kind][1], results["none"][1], strict=True):
        torch.testing.assert_close(mine, other)
print(*(results[kind][0] for kind in results))
"""


@pytest.mark.slow
def test_compiled_layers_are_one_graph_and_save_less() -> None:
    """Uses torch.compile's partitioner without a compiler, in a subprocess without the shape-checking import hook."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMPILED]
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    none, selective, full = map(int, completed.stdout.split())
    assert full < selective < none
