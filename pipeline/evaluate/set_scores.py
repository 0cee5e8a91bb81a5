"""Collect the sets of a task, encode their texts, and score them with the pretrained model and with a bigram.

In: our own set of the task, if it has one, and those of `evaluate.sets`. Out: for each its items and what could not be scored, as
counts. Items that do not fit into the window are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Generic, NamedTuple

from model.inference.likelihood import Likelihood, Pair, compute_likelihoods, split_ids
from model.tokenizer.tokenizer import Tokenizer
from pipeline.evaluate.layouts import Item, Layout, read_set
from pipeline.evaluate.task import Context
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar


class TaskItems(NamedTuple, Generic[Item]):
    """The items of one set. Its metrics begin with `name`."""

    name: str
    title: str
    items: list[Item]
    counts: Metrics


def collect_sets(context: Context, task: str, title: str, layout: Layout[Item]) -> list[TaskItems[Item]]:
    """Return our own set, data/seed/evaluation/<task>.jsonl, and those of `evaluate.sets`.

    Raises `UserError` for a set that can't be read, or if there are none.
    """
    own = _Source(task, title, context.inputs.turns, f"{task}.jsonl", f"evaluate.tasks: {task}", None)
    sources = [own] if (own.folder / own.path).exists() else []
    for index, each in enumerate(context.params.sets):
        if each.task == task:
            name, setting = f"{title}: {each.name}", f"evaluate.sets.{index}"
            sources.append(_Source(each.name, name, context.inputs.sets, each.path, setting, each.max_items))
    if not sources:
        found = f"no {task}.jsonl in {context.inputs.turns}, no set with task {task} in evaluate.sets"
        raise UserError(f"evaluate.tasks: {task} has nothing to measure", found, "add a set, or remove the task")
    return [_read_items(source, layout, context.params.seed) for source in sources]


class _Source(NamedTuple):
    """Where a set is stored, and the setting that names it."""

    name: str
    title: str
    folder: Path
    path: str
    setting: str
    max_items: int | None


def _read_items(source: _Source, layout: Layout[Item], seed: int) -> TaskItems[Item]:
    read = read_set(layout, source.folder, source.path, source.setting, source.max_items, seed)
    rejected = {f"n_{source.name}_rejected_{reason}": n for reason, n in sorted(read.rejected.items())}
    return TaskItems(source.name, source.title, read.items, {f"n_{source.name}": len(read.items), **rejected})


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> Pair:
    """Return the ids of a context, after <|bos|>, and of its continuation; the two texts are encoded as one."""
    whole = tokenizer.encode(context + continuation)
    n = split_ids(tokenizer.encode(context), whole)
    return Pair([tokenizer.get_special_id("bos"), *whole[:n]], whole[n:])


def fits(pair: Pair, seq_len: int) -> bool:
    """Return whether a continuation has tokens, and fits into the window."""
    return 0 < len(pair.continuation) <= seq_len


def score_pairs(context: Context, title: str, pairs: Sequence[Pair]) -> list[Likelihood]:
    """Return the likelihood of each continuation under the pretrained model."""
    with Bar(f"evaluate: {title}", len(pairs), "texts") as bar:
        return compute_likelihoods(context.pretrained.model, pairs, on_progress=bar.advance)


def score_by_bigram(context: Context, pairs: Iterable[Pair]) -> list[float]:
    """Return the nats of each continuation under a bigram of the training tokens."""
    pairs = list(pairs)
    nats = context.bigram.compute_nats([[*pair.context, *pair.continuation] for pair in pairs])
    return [float(each[-len(pair.continuation) :].sum()) for each, pair in zip(nats, pairs, strict=True)]
