"""Sixteen requests at once on the cores that there are, beside the same sixteen one after the other, each as fast as one goes; the
same ids. Both keep their weights between rounds, as a service does."""

from __future__ import annotations

import torch

from benchmarks.measure import Result, rates
from benchmarks.models import PROMPT, default_model
from model.batching import Batcher
from model.decoder import Decoder
from model.sampling import Sampling

N_REQUESTS, N_NEW = 16, 100


def run() -> Result:
    """Tokens a second over all requests; raises if one id differs."""
    model = default_model()
    prompts = [PROMPT[number:] for number in range(N_REQUESTS)]
    sampling = Sampling(max_tokens=N_NEW, temperature=0.0)
    engine = Decoder(model, n_places=N_REQUESTS, n_threads=torch.get_num_threads())

    def together() -> list[list[int]]:
        batcher = Batcher(model, N_REQUESTS, engine=engine)
        answers: dict[int, list[int]] = {batcher.add(prompt, sampling): [] for prompt in prompts}
        while batcher.is_busy:
            for ticket, index in batcher.step():
                if index is not None:
                    answers[ticket].append(index)
        return list(answers.values())

    decoder = Decoder(model)

    def alone() -> list[list[int]]:
        return [list(decoder.stream(prompt, sampling)) for prompt in prompts]

    assert together() == alone()
    fast, slow = rates(together, alone, N_REQUESTS * N_NEW, rounds=10)
    return Result(f"{N_REQUESTS} requests of {N_NEW} tokens", "tokens/s", fast, slow, "one at a time")
