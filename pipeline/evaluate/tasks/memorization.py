"""Measure how much training text the pretrained model continues verbatim, by the length of the prompt.

In: windows of random training documents, and of held-out ones. Out: for prompts of k tokens, whether greedy decoding writes the
next `N_TOKENS` tokens exactly; the same of held-out documents beside it, since boilerplate and repetition can be continued
without having been seen. The probability of each token after the true text decides: greedy decoding writes a text if and only if
each of its tokens is the most probable one after those before. Time: 4 s of one core for 3 million parameters.

Covers: text that a prefix of it extracts. Does not cover: paraphrases, or text that another prompt extracts.
Papers: Carlini et al. 2021, 2023 (k-extractable).
"""

from __future__ import annotations

from random import Random

import numpy as np

from model.data.batches import TokenStream
from model.inference.likelihood import Pair
from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.set_scores import score_pairs
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.frame.errors import UserError

PROMPT_TOKENS = (16, 64, 128)
N_TOKENS = 32  # about 120 characters; Carlini et al. 2023 take 50 tokens of a larger vocabulary
N_WINDOWS = 100
MAX_TRIES = 200  # per window


def measure_memorization(context: Context) -> Measured:
    """Return whether each window is continued verbatim. Raises `UserError` if no document is long enough."""
    longest = max(PROMPT_TOKENS)
    items: list[ItemScore] = []
    for split, name in (("train", "memorized"), ("val", "memorized_heldout")):
        stream = TokenStream(context.inputs.shards, split)
        windows = draw_windows(stream, N_WINDOWS, longest + N_TOKENS, context.params.seed)
        if not windows:
            found = f"none of {longest + N_TOKENS} tokens in {split} of {context.inputs.shards}"
            raise UserError("evaluate.tasks: memorization needs longer documents", found, "remove the task")
        pairs = [
            Pair([stream.bos_id, *ids[longest - k : longest]], ids[longest:])
            for k in PROMPT_TOKENS
            for _, ids in windows
        ]
        scores = score_pairs(context, name, pairs)
        labels = [(f"{name}_{k}_frac", start) for k in PROMPT_TOKENS for start, _ in windows]
        items += [
            ItemScore(metric, f"{split}:{start}", float(score.is_greedy), is_baseline=split == "val")
            for (metric, start), score in zip(labels, scores, strict=True)
        ]
    figures = [
        Figure(
            f"memorized_{k}_frac",
            f"Training text continued verbatim from {k} tokens",
            f"the next {N_TOKENS} tokens",
            is_lower_better=True,
            baselines={f"memorized_heldout_{k}_frac": "held-out text"},
        )
        for k in PROMPT_TOKENS
    ]
    return Measured(items, figures)


def draw_windows(stream: TokenStream, n: int, n_tokens: int, seed: int) -> list[tuple[int, list[int]]]:
    """Return (start, ids) of up to `n` different windows that lie inside a document."""
    rng = Random(seed)
    windows: dict[int, list[int]] = {}
    for _ in range(n * MAX_TRIES):
        if len(windows) == n or len(stream) < n_tokens:
            break
        start = rng.randrange(len(stream) - n_tokens + 1)
        ids = stream.read(start, start + n_tokens)
        if not np.any(ids == stream.bos_id):
            windows[start] = ids.tolist()
    return list(windows.items())


MEMORIZATION = Task("memorization", measure_memorization)
