"""Block attention equals attention with a dense mask, shown on the CPU, where torch runs FlexAttention slowly and disables its
gradients."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as torch_flex

from model.network.transformer import attend, make_document_mask
from model.training.compute import TorchCompute
from model.training.document_blocks import make_block_attention
from model.training.optim import get_grad
from tests.model.conftest import TINY, awake
from tests.model.training.test_activation_checkpointing import COUNT, make_batch
from tests.model.training.test_loop import ROOT


@pytest.fixture(autouse=True)
def _backward_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Enable gradients: torch disables them on the CPU because its compiler lacks them, but the uncompiled code has them."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        warnings.filterwarnings(
            "ignore", message="The .grad attribute of a Tensor that is not a leaf"
        )  # triggered by dynamo
        yield


def make_heads(n_head: int, n_kv_head: int, n_tokens: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(n_tokens)
    shapes = [(2, n, n_tokens, 8) for n in (n_head, n_kv_head, n_kv_head)]
    tensors = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    starts = torch.rand(2, n_tokens, generator=generator) < 0.05
    return tensors, starts.cumsum(1)


@pytest.mark.parametrize(("n_head", "n_kv_head"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("n_tokens", [24, 128, 200])
def test_block_attention_equals_dense_mask(n_head: int, n_kv_head: int, n_tokens: int) -> None:
    inputs, documents = make_heads(n_head, n_kv_head, n_tokens)
    by_blocks = make_block_attention(documents)(*inputs)
    dense = attend(inputs[0], inputs[1], inputs[2], make_document_mask(documents), is_causal=False)
    torch.testing.assert_close(by_blocks, dense)
    slopes = [torch.autograd.grad(y.square().sum(), inputs) for y in (by_blocks, dense)]
    for mine, other in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_gradients_with_blocks_equal_those_with_a_mask() -> None:
    results = []
    for has_blocks in (True, False):
        model = awake()
        compute = TorchCompute(model, torch.float32, use_compile=False, log=lambda text: None)
        if has_blocks:
            compute._use_blocks()  # pyright: ignore[reportPrivateUsage]
        results.append([compute.add_gradients(make_batch(), COUNT), *map(get_grad, model.parameters())])
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_fallback_to_a_dense_mask_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException  # a second of imports

    def fail(documents: Tensor) -> Tensor:
        raise TorchDynamoException("no room\nfor it")

    monkeypatch.setattr("model.training.compute.find_compiler_problem", lambda device: None)
    monkeypatch.setattr(torch, "compile", lambda function, **how: function)
    messages: list[str] = []
    model = awake()
    compute = TorchCompute(model, torch.float32, use_compile=True, log=messages.append)
    model.mask_documents, compute.has_blocks = fail, True  # as on a GPU
    nats = compute.add_gradients(make_batch(), COUNT)
    assert messages == ["document masks are materialized: FlexAttention failed here (no room)"]
    assert compute.is_compiled
    plain = TorchCompute(awake(), torch.float32, use_compile=False, log=lambda text: None)
    assert nats == plain.add_gradients(make_batch(), COUNT)


COMPILED = """
import torch
from torch.nn.attention import flex_attention as torch_flex
from torch._dynamo.testing import CompileCounterWithBackend
from model.training.activation_checkpointing import get_layer_runner
from model.training.document_blocks import make_block_attention
from tests.model.training.test_activation_checkpointing import make_batch
from tests.model.conftest import awake
torch_flex._validate_device = lambda *tensors: None
plain = awake()
plain(make_batch().ids, None, make_batch().documents).sum().backward()
for kind in ("none", "selective", "full"):
    torch.compiler.reset()
    model = awake()
    model.run_layer, model.mask_documents = get_layer_runner(kind), make_block_attention
    counter = CompileCounterWithBackend("aot_eager")
    forward = torch.compile(model.forward, backend=counter, fullgraph=True)
    for roll in (1, 0):  # other documents must not recompile
        model.zero_grad()
        forward(make_batch().ids, None, make_batch().documents.roll(roll, 1)).sum().backward()
    assert counter.frame_count == 1, counter.frame_count
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-4)
print("equal")
"""


@pytest.mark.slow
def test_masks_and_model_compile_to_one_graph() -> None:
    """Traced with gradients, as on a GPU, in a subprocess without the shape-checking import hook."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    completed = subprocess.run(
        [sys.executable, "-c", COMPILED], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert completed.stdout.strip() == "equal", completed.stderr[-3000:]


def test_tiny_model_uses_grouped_queries() -> None:
    assert TINY.n_head > TINY.n_kv_head  # otherwise the tests above would not cover it
