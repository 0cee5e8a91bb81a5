from __future__ import annotations

import pytest
import torch

from model.machine.hardware import find_kernel_problem
from model.network.config import ModelConfig
from model.network.loss import cross_entropy
from model.network.transformer import Transformer
from model.training import fused
from model.training.fused import FusedStep, compute_first_visible
from tests.model.conftest import TINY, awake

pytestmark = pytest.mark.skipif(find_kernel_problem() is not None, reason=f"no CPU kernels: {find_kernel_problem()}")
UNTIED = ModelConfig.from_dict(TINY.to_dict() | {"is_tied": False, "n_kv_head": 4})
DOCUMENTS = torch.tensor([[0] * 9 + [1] * 23, [0] * 32, [0, 1, *[2] * 29, -1]])


def batch(is_sparse: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids, targets = (torch.randint(0, 300, (3, 32), generator=generator) for _ in range(2))
    if is_sparse:
        targets[:, ::3] = -100
        targets[1] = -100
    return ids, targets


def by_autograd(model: Transformer, ids: torch.Tensor, targets: torch.Tensor, documents: torch.Tensor | None) -> tuple:
    nats, count = cross_entropy(model(ids, None, documents), model.head.weight, targets)
    grads = torch.autograd.grad(nats / count, list(model.parameters()))
    return nats.item(), count, dict(zip(dict(model.named_parameters()), grads, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("config", [TINY, UNTIED])
@pytest.mark.parametrize("documents", [None, DOCUMENTS])
@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("block_tokens", [128, 10])
def test_equals_autograd(
    threads: int,
    config: ModelConfig,
    documents: torch.Tensor | None,
    is_sparse: bool,
    block_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused, "BLOCK_TOKENS", block_tokens)
    torch.set_num_threads(threads)
    model = awake(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())  # so that only activations are rounded
    ids, targets = batch(is_sparse)
    expected, count, grads = by_autograd(model, ids, targets, documents)
    step = FusedStep(model)
    for _ in range(2):
        nats = step.add_gradients(ids, targets, documents, 1 / count)
    assert nats == pytest.approx(expected, rel=2e-3)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - 2 * grads[name]).norm() / (2 * grads[name]).norm()
        assert error < 0.05, name  # bf16 keeps 8 bits


def test_weights_are_taken_over() -> None:
    model, other = awake(seed=1), awake(seed=2)
    ids, targets = batch(False)
    step = FusedStep(model)
    with torch.no_grad():
        for mine, its in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(its)
    step.update()
    assert step.add_gradients(ids, targets, None, 1.0) == FusedStep(other).add_gradients(ids, targets, None, 1.0)


def test_a_loss_that_is_no_number_arrives_as_one() -> None:
    model = awake()
    with torch.no_grad():
        model.embedding.weight[7] = float("nan")
    ids, targets = batch(False)
    assert not FusedStep(model).add_gradients(ids.fill_(7), targets, None, 1.0) < float("inf")


def test_a_batch_without_targets_has_no_gradient() -> None:
    model = awake()
    ids, targets = batch(False)
    assert FusedStep(model).add_gradients(ids, targets.fill_(-100), None, 1.0) == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters() if parameter.grad is not None)


def test_first_visible_is_where_the_document_starts() -> None:
    ids = torch.zeros(3, 32, dtype=torch.long)
    first = compute_first_visible(ids, DOCUMENTS)
    assert first[0].tolist() == [0] * 9 + [9] * 23
    assert first[2].tolist() == [0, 1, *[2] * 29, 31]
    assert compute_first_visible(ids, None).sum() == 0
