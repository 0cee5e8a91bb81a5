from __future__ import annotations

import pytest
import torch

from model.machine.hardware import find_kernel_problem
from model.network.config import ModelConfig
from model.network.loss import cross_entropy, find_scored_tokens, sum_nats
from model.network.soft_targets import SoftTargets
from model.network.transformer import Transformer
from model.training import fused
from model.training.fused import FusedStep, compute_first_visible
from tests.model.conftest import TINY, awake

pytestmark = pytest.mark.skipif(find_kernel_problem() is not None, reason=f"no CPU kernels: {find_kernel_problem()}")
UNTIED = ModelConfig.from_dict(TINY.to_dict() | {"is_tied": False, "n_kv_head": 4})
DOCUMENTS = torch.tensor([[0] * 9 + [1] * 23, [0] * 32, [0, 1, *[2] * 29, -1]])
PIECES = torch.tensor(
    [[0] * 9 + [1] * 23, [0] * 12 + [1] * 20, [0, 1, *[2] * 12, *[3] * 17, -1]]
)  # keys 0 … 8 are skipped


def make_batch(is_sparse: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids, targets = (torch.randint(0, 300, (3, 32), generator=generator) for _ in range(2))
    if is_sparse:
        targets[:, ::3] = -100
        targets[1] = -100
    return ids, targets


def compute_by_autograd(
    model: Transformer, ids: torch.Tensor, targets: torch.Tensor, documents: torch.Tensor | None
) -> tuple:
    nats, count = cross_entropy(model(ids, None, documents), model.head.weight, targets)
    grads = torch.autograd.grad(nats / count, list(model.parameters()))
    return nats.item(), count, dict(zip(dict(model.named_parameters()), grads, strict=True))


@pytest.mark.parametrize(
    ("threads", "config", "documents", "is_sparse", "block_tokens"),
    [  # every combination of any four of the five
        (threads, config, documents, is_sparse, 10 if is_odd else 128)
        for threads in (1, 2)
        for config in (TINY, UNTIED)
        for documents in (None, DOCUMENTS, PIECES)
        for is_sparse in (False, True)
        for is_odd in [(threads == 2) ^ (config is UNTIED) ^ (documents is not None) ^ is_sparse]
    ],
)
def test_fused_step_equals_autograd(
    threads: int,
    config: ModelConfig,
    documents: torch.Tensor | None,
    is_sparse: bool,
    block_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fused, "BLOCK_TOKENS", block_tokens)
    monkeypatch.setattr(fused, "KEYS_MULTIPLE", 4)
    torch.set_num_threads(threads)
    model = awake(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())  # exact in bf16, so that only activations are rounded
    ids, targets = make_batch(is_sparse)
    expected, count, grads = compute_by_autograd(model, ids, targets, documents)
    step = FusedStep(model)
    for _ in range(2):
        nats = step.add_gradients(ids, targets, documents, 1 / count)
    assert nats == pytest.approx(expected, rel=2e-3)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - 2 * grads[name]).norm() / (2 * grads[name]).norm()
        assert error < 0.06, name  # bf16 has 8 significant bits


@pytest.mark.parametrize("is_sparse", [False, True])
def test_weighted_targets_equal_autograd(is_sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "CHUNK_TOKENS", 24)  # several chunks, the last one shorter
    model = awake()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    ids, targets = make_batch(is_sparse)
    weights = torch.randn(ids.shape, generator=torch.Generator().manual_seed(5))  # of both signs
    logits = model(ids, None, DOCUMENTS) @ model.head.weight.T
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    total = (weights.flatten() * nats).sum()
    grads = dict(zip(dict(model.named_parameters()), torch.autograd.grad(total, list(model.parameters())), strict=True))
    step = FusedStep(model)
    assert step.add_gradients(ids, targets, DOCUMENTS, 0.5, weights) == pytest.approx(total.item(), rel=1e-2)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - 0.5 * grads[name]).norm() < 0.06 * 0.5 * grads[name].norm(), name


def test_weights_of_one_change_no_bit() -> None:
    ids, targets = make_batch(True)
    results = []
    for weights in (None, torch.ones(ids.shape)):
        model = awake()
        nats = FusedStep(model).add_gradients(ids, targets, DOCUMENTS, 0.1, weights)
        results.append([torch.tensor(nats), *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_update_copies_the_weights() -> None:
    model, other = awake(seed=1), awake(seed=2)
    ids, targets = make_batch(False)
    step = FusedStep(model)
    with torch.no_grad():
        for mine, its in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(its)
    step.update()
    assert step.add_gradients(ids, targets, None, 1.0) == FusedStep(other).add_gradients(ids, targets, None, 1.0)


def test_nan_loss_stays_nan() -> None:
    model = awake()
    with torch.no_grad():
        model.embedding.weight[7] = float("nan")
    ids, targets = make_batch(False)
    assert not FusedStep(model).add_gradients(ids.fill_(7), targets, None, 1.0) < float("inf")


def test_a_batch_without_targets_has_no_gradient() -> None:
    model = awake()
    ids, targets = make_batch(False)
    assert FusedStep(model).add_gradients(ids, targets.fill_(-100), None, 1.0) == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters() if parameter.grad is not None)


def test_blocks_skip_the_keys_of_other_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "BLOCK_TOKENS", 10)
    first = compute_first_visible(torch.zeros_like(PIECES), PIECES)
    blocks = fused.skip_other_documents(fused.make_query_blocks(32, 2), first)
    assert [block.start for block in blocks] == [0, 10, 20, 30]
    for block in blocks:
        assert block.base <= int(first[:, block.start : block.stop].min()) < block.base + fused.KEYS_MULTIPLE


def test_first_visible_is_the_start_of_the_document() -> None:
    ids = torch.zeros(3, 32, dtype=torch.long)
    first = compute_first_visible(ids, DOCUMENTS)
    assert first[0].tolist() == [0] * 9 + [9] * 23
    assert first[2].tolist() == [0, 1, *[2] * 29, 31]
    assert compute_first_visible(ids, None).sum() == 0


@pytest.mark.parametrize(
    ("share", "temperature", "k", "is_sparse"), [(0.0, 1.0, 3, False), (0.6, 2.0, 8, True), (1.0, 1.0, 300, False)]
)
def test_soft_targets_equal_those_of_plain_torch(share: float, temperature: float, k: int, is_sparse: bool) -> None:
    torch.set_num_threads(1)
    model = awake()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    ids, targets = make_batch(is_sparse)
    generator = torch.Generator().manual_seed(5)
    logits, weights = 5 * torch.randn(3, 32, 300, generator=generator), torch.rand(3, 32, generator=generator)
    log_probs, best = (logits / temperature).log_softmax(-1).topk(k)
    soft = SoftTargets(best, log_probs, share, temperature)
    scores = (model.head.weight, targets, find_scored_tokens(targets), weights, soft)
    expected = sum_nats(model(ids, None, None), *scores)
    grads = torch.autograd.grad(expected, list(model.parameters()))
    nats = FusedStep(model).add_gradients(ids, targets, None, 1.0, weights, None, soft)
    assert nats == pytest.approx(expected.item(), rel=2e-3)
    whole = torch.cat([grad.flatten() for grad in grads]).norm()
    for (name, parameter), grad in zip(model.named_parameters(), grads, strict=True):
        assert parameter.grad is not None
        error = (parameter.grad - grad).norm()
        assert error < 0.1 * grad.norm(), name  # bf16 has 8 significant bits
        assert error < 0.02 * whole, name
