"""The compiled decoder returns the logits of the Transformer, with weights of every format."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.decoder import Decoder
from model.inference.generate import generate
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.quantize import FORMATS, round_weights
from model.network.transformer import Transformer

SHAPES = [(4, 2, 8, True), (2, 1, 16, True), (4, 4, 8, False), (8, 4, 4, True)]
ODD = (3, 1, 16, True, 46)  # widths that are not whole groups or blocks


def make_model(n_head: int, n_kv_head: int, d_head: int, is_tied: bool, d_ff: int = 96) -> Transformer:
    """Return a model in which every weight affects the logits; 51 ids, so that the last block of outputs is incomplete."""
    config = ModelConfig(
        vocab_size=51,
        seq_len=150,
        n_layer=2,
        n_head=n_head,
        n_kv_head=n_kv_head,
        d_model=32,
        d_head=d_head,
        d_ff=d_ff,
        is_tied=is_tied,
    )
    model = Transformer(config, seed=1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


MODEL = make_model(8, 2, 8, True)


@pytest.mark.parametrize(
    ("shape", "weights"),
    [*((shape, weights) for shape in SHAPES for weights in FORMATS), (ODD, "float32"), (ODD, "bfloat16")],
)
def test_logits_equal_the_model_s(shape: tuple[int, int, int, bool], weights: str) -> None:
    model = make_model(*shape)
    exact = round_weights(model, weights)
    ids = torch.randint(51, (3, 140), generator=torch.Generator().manual_seed(5))
    expected = exact.compute_logits(exact(ids))
    decoder = Decoder(model, n_slots=3, weights=weights)
    for slot, row in enumerate(ids.tolist()):
        assert np.allclose(decoder.prefill([slot], [row[:131]])[0], expected[slot, 130], atol=2e-4)
    for position in range(131, 140):
        logits = decoder.decode(ids[:, position].tolist(), [0, 1, 2], [position] * 3)
        assert np.allclose(logits, expected[:, position], atol=2e-4)


def test_rows_of_different_lengths_are_independent() -> None:
    model = make_model(4, 2, 8, True)
    decoder = Decoder(model, n_slots=12, n_threads=2)
    chance = torch.Generator().manual_seed(7)
    rows = [torch.randint(51, (5 + 3 * slot,), generator=chance).tolist() for slot in range(12)]
    for slot, row in enumerate(rows):
        decoder.prefill([slot], [row[:-1]])
    logits = decoder.decode([row[-1] for row in rows], list(range(12)), [len(row) - 1 for row in rows])
    for slot, row in enumerate(rows):
        assert np.allclose(logits[slot], model.compute_logits(model(torch.tensor([row]))[0, -1]), atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 149), min_size=1, max_size=14),
    n_threads=st.integers(1, 3),
    weights=st.sampled_from(FORMATS),
)
def test_a_row_has_the_same_bits_in_any_batch(lengths: list[int], n_threads: int, weights: str) -> None:
    """For any number of rows and threads, and however prompts are chunked."""
    decoder = Decoder(MODEL, n_slots=15, weights=weights, n_threads=n_threads)
    chance = np.random.default_rng(len(lengths))
    prompts = [chance.integers(0, 51, length).tolist() for length in lengths]
    ids = chance.integers(0, 51, len(lengths)).tolist()
    slots = chance.permutation(14)[: len(lengths)].tolist()
    first = decoder.prefill(slots, prompts)
    second = decoder.decode(ids, slots, lengths)
    for number, prompt in enumerate(prompts):
        assert np.array_equal(decoder.prefill([14], [prompt])[0], first[number])
        assert np.array_equal(decoder.decode([ids[number]], [14], [len(prompt)])[0], second[number])
        if number == 0:
            assert np.array_equal(decoder.prefill([14], [[*prompt, ids[0]]])[0], second[0])  # cached = recomputed


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_the_stream_equals_generate(temperature: float) -> None:
    model = make_model(4, 2, 8, True)
    sampling = Sampling(max_tokens=200, temperature=temperature, top_k=20, seed=4)
    prompt = [1, 2, 3]
    answer = list(Decoder(model).stream(prompt, sampling))
    assert answer == generate(model, prompt, sampling)
    assert len(answer) == 147  # the window is full
    stop = answer[20]
    assert list(Decoder(model).stream(prompt, sampling, stop_ids=[stop])) == answer[: answer.index(stop)]


def test_a_decoder_reports_the_memory_of_its_weights() -> None:
    model = make_model(4, 4, 8, False)
    sizes = {weights: Decoder(model, weights=weights).weight_bytes for weights in FORMATS}
    assert sizes["float32"] > sizes["bfloat16"] > sizes["int8"] > sizes["int4"]
    tied = Decoder(make_model(4, 4, 8, True)).weight_bytes
    assert sizes["float32"] - tied == 64 * 32 * 4  # one table less, of 51 rows in blocks of 16


@pytest.mark.parametrize(("shape", "weights"), [(SHAPES[0], "int2"), (ODD, "int8"), (ODD, "int4")])
def test_a_format_that_does_not_fit_is_refused(shape: tuple[int, int, int, bool], weights: str) -> None:
    with pytest.raises(ValueError, match=r"weights must be one of|model.d_ff = 46"):
        Decoder(make_model(*shape), weights=weights)
