"""Sample several answers to one prompt in lockstep, with the log of what ended them: for reinforcement learning.

In: an engine with as many slots as answers, a prompt, a seed. Out: the ids of each answer, with its stop id if it came to one. All
answers of a prompt draw from one generator, one number per answer and step, so they depend on nothing but the weights and
its seed. Memory: the engine's slots. Time: a prefill per answer, then one pass per token for all that are not finished.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.inference.decoder import Decoder
from model.inference.generate import TorchEngine, sample
from model.inference.prefix import check_prompt
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import Transformer


class BatchEngine(Protocol):
    """Computes logits of whole prompts and of one more token per slot, which is a row of its KV cache."""

    config: ModelConfig

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor | NDArray[np.float32]: ...

    def decode(
        self, ids: Sequence[int], slots: Sequence[int], positions: Sequence[int]
    ) -> Tensor | NDArray[np.float32]: ...


class SampledAnswer(NamedTuple):
    """The ids of an answer, with its stop id at the end if it is finished; else it was cut at the most tokens allowed."""

    ids: list[int]
    is_finished: bool


def make_engine(model: Transformer, n_slots: int) -> Decoder | TorchEngine:
    """Return the fastest engine for the model's device and precision; it has the weights of this moment."""
    weight = model.embedding.weight
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        return Decoder(model, n_slots=n_slots, n_threads=torch.get_num_threads())
    return TorchEngine(model, n_slots)


def sample_answers(
    engine: BatchEngine, prompt: Sequence[int], n_answers: int, sampling: Sampling, *, stop_ids: Collection[int]
) -> list[SampledAnswer]:
    """Return `n_answers` answers. Raises: ValueError for a prompt that is empty or too long."""
    check_prompt(engine.config, prompt)
    n_most = min(sampling.max_tokens, engine.config.seq_len - len(prompt))
    answers: list[list[int]] = [[] for _ in range(n_answers)]
    finished: set[int] = set()
    logits = torch.as_tensor(engine.prefill(range(n_answers), [prompt] * n_answers))
    generator = torch.Generator(device=logits.device).manual_seed(sampling.seed)
    active = list(range(n_answers))
    for step in range(n_most):
        drawn: list[int] = sample(logits.float(), sampling, generator).tolist()
        for slot, index in zip(active, drawn, strict=True):
            answers[slot].append(index)
        finished |= {slot for slot in active if answers[slot][-1] in stop_ids}
        active = [slot for slot in active if slot not in finished]
        if not active or step + 1 == n_most:
            break
        last = [answers[slot][-1] for slot in active]
        logits = torch.as_tensor(engine.decode(last, active, [len(prompt) + step] * len(active)))
    return [SampledAnswer(ids, slot in finished) for slot, ids in enumerate(answers)]
