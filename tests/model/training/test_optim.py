from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from model.training.optim import FusedAdamW, Muon, Optimizer, OptimSettings, orthogonalize
from tests.model.conftest import awake

SHAPES = [(24, 48), (48, 24), (24, 48), (32, 32)]


def make_parameters(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {f"w{n}": nn.Parameter(torch.randn(shape, generator=generator)) for n, shape in enumerate(SHAPES)}


def set_grads(named: dict[str, nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in named.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize(("scale", "theirs"), [("rms", "match_rms_adamw"), ("spectral", "original")])
def test_muon_equals_torch_muon(scale: str, theirs: str) -> None:
    ours, reference = make_parameters(), make_parameters()
    settings = OptimSettings(matrix_lr=0.02, weight_decay=0.1, scale=scale)
    muon = Muon(ours.items(), settings, torch.bfloat16)
    peer = torch.optim.Muon(reference.values(), lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=theirs)
    for step in range(3):
        set_grads(ours, step)
        set_grads(reference, step)
        muon.step(1.0)
        peer.step()
    for name in ours:
        torch.testing.assert_close(ours[name], reference[name], atol=2e-3, rtol=0)


def test_adamw_equals_torch_adamw_to_the_bit() -> None:
    ours, reference = make_parameters(), make_parameters()

    def make_groups(named: dict[str, nn.Parameter]) -> list[dict[str, Any]]:
        first, second, *rest = named.values()
        return [
            {"params": [first, second], "lr": 0.03, "weight_decay": 0.1},
            {"params": rest, "lr": 0.01, "weight_decay": 0.0},
        ]

    adam = FusedAdamW(make_groups(ours), betas=(0.9, 0.95), eps=1e-8)
    peer = torch.optim.AdamW(make_groups(reference), lr=1.0, betas=(0.9, 0.95), eps=1e-8, fused=True)
    for step in range(4):
        for named in (ours, reference):
            set_grads(named, step)
            named["w0"].grad = None if step == 1 else named["w0"].grad  # a parameter without a gradient stays as it is
        adam.step()
        peer.step()
    for mine, theirs in zip(ours.values(), reference.values(), strict=True):
        assert torch.equal(mine, theirs)
        assert {key: value.tolist() for key, value in adam.state[mine].items()} == {
            key: value.tolist() for key, value in peer.state[theirs].items()
        }


def test_batched_updates_equal_single_ones() -> None:
    ours, single = make_parameters(), make_parameters()
    settings = OptimSettings(weight_decay=0.1)
    together = Muon(ours.items(), settings, torch.float32)
    alone = [Muon([(name, parameter)], settings, torch.float32) for name, parameter in single.items()]
    for step in range(3):
        set_grads(ours, step)
        set_grads(single, step)
        together.step(0.5)
        for muon in alone:
            muon.step(0.5)
    assert len(together.groups) == 2
    for name in ours:
        torch.testing.assert_close(ours[name], single[name])


def test_orthogonalized_singular_values_are_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalize(torch.randn(2, 24, 48), 5, torch.float32))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_state_round_trips_bit_for_bit() -> None:
    models = [awake(), awake()]
    optimizers = [Optimizer(model, OptimSettings(weight_decay=0.1)) for model in models]

    def update(index: int, step: int) -> None:
        set_grads(dict(models[index].named_parameters()), step)
        optimizers[index].step(0.7)

    for step in range(3):
        update(0, step)
    with torch.no_grad():
        for mine, other in zip(models[1].parameters(), models[0].parameters(), strict=True):
            mine.copy_(other)
    optimizers[1].load_state_dict({name: tensor.clone() for name, tensor in optimizers[0].state_dict().items()})
    for step in range(3, 6):
        update(0, step)
        update(1, step)
    for mine, other in zip(models[1].parameters(), models[0].parameters(), strict=True):
        assert torch.equal(mine, other)


def test_every_parameter_has_one_optimizer() -> None:
    model = awake()
    optimizer = Optimizer(model, OptimSettings())
    owned = [
        *optimizer.muon.parameters.values(),
        *(p for group in optimizer.adam.param_groups for p in group["params"]),
    ]
    assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))


def test_state_of_another_model_is_rejected() -> None:
    optimizer = Optimizer(awake(), OptimSettings())
    with pytest.raises(ValueError, match="another model"):
        optimizer.load_state_dict({})


def test_invalid_settings_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"optim\.matrix_lr"):
        OptimSettings(matrix_lr=-1.0)
    with pytest.raises(ValueError, match=r"optim\.momentum"):
        OptimSettings(momentum=1.0)
