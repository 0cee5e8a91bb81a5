from __future__ import annotations

import dataclasses

import pytest

from model.network.config import ModelConfig
from model.network.transformer import Transformer

SIZES = {
    "vocab_size": 300,
    "seq_len": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_kv_head": 2,
    "d_model": 32,
    "d_head": 8,
    "d_ff": 64,
}


@pytest.mark.parametrize("is_tied", [True, False])
def test_parameter_count_equals_the_network(is_tied: bool) -> None:
    config = ModelConfig(**SIZES, is_tied=is_tied)
    assert config.n_parameters == sum(parameter.numel() for parameter in Transformer(config).parameters())


def test_flops_are_six_per_matrix_weight_and_token() -> None:
    config = ModelConfig(**SIZES)
    matrices = sum(p.numel() for p in Transformer(config).parameters() if p.ndim > 1)
    attention = 2 * config.n_layer * config.n_head * config.d_head * 10
    assert config.count_flops_per_token(10) == 6 * matrices + 3 * attention
    assert config.count_flops_per_token(10, is_training=False) * 3 == config.count_flops_per_token(10)


def test_cache_bytes_cover_keys_and_values() -> None:
    assert ModelConfig(**SIZES).count_cache_bytes(2, 10) == 2 * 2 * 2 * 8 * 2 * 10 * 4


def test_config_round_trips() -> None:
    config = ModelConfig(**SIZES, rope_theta=500.0, is_tied=False)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"n_layer": 0}, "model.n_layer"),
        ({"d_ff": 1.5}, "model.d_ff"),
        ({"n_kv_head": 3}, "model.n_kv_head"),
        ({"d_head": 7}, "model.d_head"),
        ({"rope_theta": -1.0}, "model.rope_theta"),
        ({"is_tied": 1}, "model.is_tied"),
        ({"n_layers": 2}, "n_layers"),
    ],
)
def test_invalid_sizes_are_reported(change: dict, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ModelConfig.from_dict(SIZES | change)


def test_missing_sizes_are_reported() -> None:
    with pytest.raises(ValueError, match="seq_len"):
        ModelConfig.from_dict({key: value for key, value in SIZES.items() if key != "seq_len"})


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(**SIZES).n_layer = 3  # type: ignore[misc]
