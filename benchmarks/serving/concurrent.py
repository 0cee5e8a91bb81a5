"""Sixteen requests at once, on all cores, against the same sixteen one after the other, each as fast as possible; equal ids.

Both keep their weights between rounds, as a service does.
"""

from __future__ import annotations

import torch

from benchmarks.measure import Result, Work, compare
from benchmarks.serving.models import PROMPT, make_default_model
from model.inference.batching import Batcher, collect_answers
from model.inference.decoder import Decoder
from model.inference.sampling import Sampling


def run(*, n_requests: int = 16, n_new: int = 100) -> Result:
    """Return tokens per second over all requests."""
    model = make_default_model()
    prompts = [PROMPT[number:] for number in range(n_requests)]
    sampling = Sampling(max_tokens=n_new, temperature=0.0)
    engine, decoder = Decoder(model, n_slots=n_requests, n_threads=torch.get_num_threads()), Decoder(model)

    def ours() -> list[list[int]]:
        batcher = Batcher(engine, n_requests)
        return collect_answers(batcher, [batcher.add(prompt, sampling) for prompt in prompts])

    def peer() -> list[list[int]]:
        return [list(decoder.stream(prompt, sampling)) for prompt in prompts]

    n_tokens, work = n_requests * n_new, f"{n_requests} requests of {n_new} tokens"
    return compare(Work(work, "tokens/s", n_tokens, "ours, one at a time", is_one_core=False), ours, peer, rounds=10)
