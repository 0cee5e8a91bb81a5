"""The gradient of a batch of pairs equals autograd's through the formula, however it is divided."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.machine.hardware import find_kernel_problem
from model.network.loss import compute_token_nats
from model.network.transformer import Transformer
from model.training.compute import TorchCompute, choose_compute
from model.training.loop import TrainSettings, train
from model.training.optim import OptimSettings
from pipeline.prefer.pair_batches import EncodedPair, PairBatches, PairMethod
from tests.pipeline.prefer.made_turns import make_model

PAIRS = [EncodedPair([1, *range(20, 24 + n)], [30 + n, 2], [40, 41, 42 + n, 2]) for n in range(9)]
DPO = PairMethod("dpo", 0.5)


def make_batches(method: PairMethod = DPO, **settings: int) -> PairBatches:
    return PairBatches(PAIRS, method, **({"seq_len": 64, "batch_rows": 2, "seed": 1} | settings))


def make_compute(model: Transformer) -> TorchCompute:
    return TorchCompute(model, torch.float32, use_compile=False, log=lambda text: None)


def compute_log_probability(model: Transformer, prompt: list[int], answer: list[int]) -> Tensor:
    ids = torch.tensor([[*prompt, *answer]])
    logits = model.compute_logits(model(ids[:, :-1]))[0].log_softmax(-1)
    return logits.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum()


def add_gradients(model: Transformer, batches: PairBatches) -> float:
    batch = batches.at(0)
    count = torch.tensor(float(batches.objective.count_units(batch)), dtype=torch.float64)
    return float(make_compute(model).add_gradients(batch, count)) / float(count)


def test_rows_hold_whole_pairs_side_by_side() -> None:
    batches = make_batches()
    assert sorted(pair for row in batches.rows for pair in row) == list(range(len(PAIRS)))
    batch = batches.make_batch([0])
    first = PAIRS[batches.rows[0][0]]
    n = len(first.prompt) + len(first.chosen) - 1
    assert batch.ids[0, :n].tolist() == [*first.prompt, *first.chosen[:-1]]
    assert batch.targets[0, n - len(first.chosen) : n].tolist() == first.chosen
    assert batch.documents is not None
    assert batch.documents[0, [0, n - 1, n]].tolist() == [0, 0, 1]
    n_targets = sum(len(PAIRS[pair].chosen) + len(PAIRS[pair].rejected) for pair in batches.rows[0])
    assert int((batch.targets >= 0).sum()) == n_targets


@pytest.mark.parametrize("sft_weight", [0.0, 0.3])
def test_gradient_equals_autograd_of_dpo(sft_weight: float, tmp_path: Path) -> None:
    model, reference = make_model(1), make_model(2)
    batches = make_batches(PairMethod("dpo", 0.5, sft_weight=sft_weight))
    batches.load_reference(tmp_path / "reference.npy", make_compute(reference).compute_nats)
    loss = add_gradients(model, batches)
    losses = []
    for number in batches.at(0).rows:
        for pair in (PAIRS[pair] for pair in batches.rows[number]):
            c, r = (compute_log_probability(model, pair.prompt, side) for side in (pair.chosen, pair.rejected))
            with torch.no_grad():
                c0, r0 = (compute_log_probability(reference, pair.prompt, side) for side in pair[1:])
            dpo = -torch.nn.functional.logsigmoid(0.5 * ((c - c0) - (r - r0)))
            losses.append(dpo - sft_weight * c / len(pair.chosen))
    expected = torch.stack(losses).mean()
    grads = torch.autograd.grad(expected, list(model.parameters()))
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, grad, rtol=2e-3, atol=2e-5)


@pytest.mark.skipif(find_kernel_problem() is not None, reason=f"no CPU kernels: {find_kernel_problem()}")
def test_kernels_and_torch_agree_on_the_gradient(tmp_path: Path) -> None:
    gradients = []
    for precision in ("fp32", "bf16"):
        model, batches = make_model(1), make_batches()
        batches.load_reference(tmp_path / "reference.npy", make_compute(make_model(2)).compute_nats)
        compute = choose_compute(model, precision=precision, use_kernels=True, use_compile=False, log=lambda text: None)
        compute.update()
        compute.add_gradients(batches.at(0), torch.tensor(3.0).double())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert (gradients[1] - gradients[0]).norm() < 0.06 * gradients[0].norm()


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_identical_policies_lose_log_2_and_prefer_neither(precision: str, tmp_path: Path) -> None:
    model, batches = make_model(), make_batches(batch_rows=1)
    compute = choose_compute(model, precision=precision, use_kernels=True, use_compile=False, log=lambda text: None)
    batches.load_reference(tmp_path / "reference.npy", compute.compute_nats)
    batch = batches.at(0)
    n = batches.objective.count_units(batch)
    assert float(compute.add_gradients(batch, torch.tensor(float(n)).double())) == pytest.approx(n * math.log(2))
    assert batches.objective.pop_sums()["margin_nats"] == 0


def test_the_reference_is_computed_once(tmp_path: Path) -> None:
    path, batches = tmp_path / "reference.npy", make_batches()
    batches.load_reference(path, make_compute(make_model()).compute_nats)
    expected = batches.objective.reference

    def fail(batch: object) -> Tensor:
        raise AssertionError

    again = make_batches()
    again.load_reference(path, fail)
    assert (again.objective.reference == expected).all()
    nats = compute_token_nats(
        *(lambda m, b: (m(b.ids, None, b.documents), m.head.weight, b.targets))(make_model(), batches.make_batch([0]))
    )
    assert -expected[batches.rows[0]].sum() == pytest.approx(float(nats.sum()), rel=1e-4)


def run(folder: Path, stop_at: int = 0, **changes: object) -> tuple[Transformer, list[dict[str, float]]]:
    model, batches = make_model(), make_batches()
    batches.load_reference(folder / "reference.npy", make_compute(make_model()).compute_nats)
    rates = dict.fromkeys(("matrix_lr", "embedding_lr", "head_lr", "norm_lr"), 0.01)
    settings = TrainSettings(
        **({"total_steps": 6, "optim": OptimSettings(**rates), "use_compile": False, "checkpoint_every": 2} | changes)
    )

    def on_step(record: object) -> None:
        if stop_at and record.step == stop_at:
            raise InterruptedError

    history = train(model, batches, settings=settings, checkpoints=folder / "checkpoints", on_step=on_step)
    return model, [{"loss": record.loss_nats, **record.objective} for record in history]


def test_resumed_equals_uninterrupted_and_micro_batches_the_whole(tmp_path: Path) -> None:
    for name in ("whole", "parts", "micro"):
        (tmp_path / name).mkdir()
    whole, history = run(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(tmp_path / "parts", stop_at=5)
    resumed, again = run(tmp_path / "parts")
    assert again == history
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert history[-1]["margin_nats"] > history[0]["margin_nats"] == pytest.approx(0, abs=0.05)
    _, micro = run(tmp_path / "micro", micro_rows=1, precision="fp32", total_steps=1)
    _, at_once = run(tmp_path / "micro", precision="fp32", total_steps=1)
    assert micro[0] == pytest.approx(at_once[0], rel=1e-3, abs=1e-4)
