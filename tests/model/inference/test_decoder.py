"""The compiled decoder computes what the Transformer computes, in fp32 and in int8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.decoder import Decoder, round_weights
from model.inference.generate import generate
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import Transformer

SHAPES = [(4, 2, 8, True), (3, 1, 16, True), (2, 2, 8, False), (6, 3, 4, True)]


def make(n_head: int, n_kv_head: int, d_head: int, is_tied: bool) -> Transformer:
    """Weights that matter everywhere; 51 ids, so that the last rows are no block of four."""
    config = ModelConfig(
        vocab_size=51,
        seq_len=150,
        n_layer=2,
        n_head=n_head,
        n_kv_head=n_kv_head,
        d_model=32,
        d_head=d_head,
        d_ff=46,
        is_tied=is_tied,
    )
    model = Transformer(config, seed=1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


MODEL = make(6, 2, 8, True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_logits_are_those_of_the_model(shape: tuple[int, int, int, bool], weights: str) -> None:
    model = make(*shape)
    exact = model if weights == "float32" else round_weights(model)
    ids = torch.randint(51, (3, 140), generator=torch.Generator().manual_seed(5))
    wanted = exact.compute_logits(exact(ids))
    decoder = Decoder(model, n_slots=3, weights=weights)
    for place, row in enumerate(ids.tolist()):
        assert torch.allclose(decoder.prefill([place], [row[:131]])[0], wanted[place, 130], atol=2e-4)
    for position in range(131, 140):
        found = decoder.decode(ids[:, position].tolist(), [0, 1, 2], [position] * 3)
        assert torch.allclose(found, wanted[:, position], atol=2e-4)


def test_rows_of_different_lengths_and_threads_do_not_meet() -> None:
    model = make(4, 2, 8, True)
    decoder = Decoder(model, n_slots=12, n_threads=2)
    chance = torch.Generator().manual_seed(7)
    rows = [torch.randint(51, (5 + 3 * place,), generator=chance).tolist() for place in range(12)]
    for place, row in enumerate(rows):
        decoder.prefill([place], [row[:-1]])
    found = decoder.decode([row[-1] for row in rows], list(range(12)), [len(row) - 1 for row in rows])
    for place, row in enumerate(rows):
        assert torch.allclose(found[place], model.compute_logits(model(torch.tensor([row]))[0, -1]), atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 149), min_size=1, max_size=14),
    n_threads=st.integers(1, 3),
    weights=st.sampled_from(["float32", "int8"]),
)
def test_a_row_has_the_same_bits_in_any_company(lengths: list[int], n_threads: int, weights: str) -> None:
    """However many rows, threads, and whatever chunks their prompts are cut into."""
    decoder = Decoder(MODEL, n_slots=15, weights=weights, n_threads=n_threads)
    chance = np.random.default_rng(len(lengths))
    prompts = [chance.integers(0, 51, length).tolist() for length in lengths]
    ids = chance.integers(0, 51, len(lengths)).tolist()
    places = chance.permutation(14)[: len(lengths)].tolist()
    first = decoder.prefill(places, prompts)
    second = decoder.decode(ids, places, lengths)
    for number, prompt in enumerate(prompts):
        assert torch.equal(decoder.prefill([14], [prompt])[0], first[number])
        assert torch.equal(decoder.decode([ids[number]], [14], [len(prompt)])[0], second[number])
        if number == 0:
            assert torch.equal(decoder.prefill([14], [[*prompt, ids[0]]])[0], second[0])  # cached = computed anew


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_stream_is_that_of_generate(temperature: float) -> None:
    model = make(4, 2, 8, True)
    sampling = Sampling(max_tokens=200, temperature=temperature, top_k=20, seed=4)
    prompt = [1, 2, 3]
    found = list(Decoder(model).stream(prompt, sampling))
    assert found == generate(model, prompt, sampling)
    assert len(found) == 147  # the window is full
    stop = found[20]
    assert list(Decoder(model).stream(prompt, sampling, stop_ids=[stop])) == found[: found.index(stop)]


def test_rounding_is_to_the_nearest_of_255_levels_a_row() -> None:
    model = make(2, 2, 8, False)
    other = round_weights(model)
    for name, parameter in model.named_parameters():
        found = dict(other.named_parameters())[name]
        if parameter.ndim == 1 or name == "embedding.weight":
            assert torch.equal(found, parameter)
        else:
            assert ((found - parameter).abs() <= parameter.abs().amax(1, keepdim=True) / 254 + 1e-6).all()


def test_an_unknown_kind_of_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="float32 or int8"):
        Decoder(make(2, 2, 8, True), weights="int4")
