"""Score a base and its tuned version on a domain's held-out items, beside the simplest baseline.

In: the base, what was trained (an adapter's folder or a model folder), the folder of the stage `domain`. Out: items.jsonl with what
each model chose and spelled. Two scores: the reply *chosen* among those that are possible, by its likelihood, as the assistant
answers; and the reply *spelled* by greedy decoding, right if it is the expected one. The baseline is the most frequent label, or
the first sentence. `gain_frac` is the difference of the chosen ones with the error of a paired comparison.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model.inference.generate import generate_batch
from model.inference.likelihood import Pair, compute_likelihoods
from model.network.adapter_folder import STATEMENT, load_adapted_model
from model.network.folder import load_model
from model.network.transformer import Transformer
from model.tokenizer.chat import Message, encode_prompt, encode_turn, messages_from_json, parse_reply
from model.tokenizer.tokenizer import Tokenizer
from pipeline.assess.params import Assess
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.storage.tables import read_table

CHOICES = "choices.jsonl"


class HeldoutItem(NamedTuple):
    """One item: the messages before the reply, the expected reply, what it can be, and what the baseline says."""

    id: str
    asked: Sequence[Message]
    expected: str
    choices: Sequence[str]
    baseline: str


class Replies(NamedTuple):
    """A model's replies to all items."""

    chosen: list[str]
    spelled: list[str]


def run(params: Assess, *, base: Path, tuned: Path, domain: Path, out: Path) -> Metrics:
    """Write the replies and return the scores. Raises: `UserError` for a folder without held-out items."""
    items = read_items(domain)
    before = answer_items(*load_model(base)[:2], items, params.max_new_tokens)
    after = answer_items(*load_tuned(base, tuned)[:2], items, params.max_new_tokens)
    _write_items(out / "items.jsonl", items, before, after)
    expected = [item.expected for item in items]
    metrics: Metrics = {"n_items": len(items)}
    for name, replies in (("base", before), ("tuned", after)):
        for kind, given in replies._asdict().items():
            metrics |= estimate_right(f"{name}_{kind}", given, expected)
    metrics |= estimate_right("baseline", [item.baseline for item in items], expected)
    return metrics | estimate_gain(before.chosen, after.chosen, expected)


def load_tuned(base: Path, tuned: Path) -> tuple[Transformer, Tokenizer, dict[str, Any]]:
    """Return the tuned model: the base with an adapter, or a model of its own. Raises: ValueError."""
    return load_adapted_model(base, tuned) if (tuned / STATEMENT).is_file() else load_model(tuned)


def read_items(folder: Path) -> list[HeldoutItem]:
    """Read the held-out conversations and what their replies can be. Raises: `UserError` for a folder that has none."""
    path = folder / CHOICES
    if not path.is_file():
        raise UserError(
            f"assess: {folder} has no held-out items", f"no {CHOICES}", "give the folder of the stage domain"
        )
    choices = {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    items: list[HeldoutItem] = []
    for row in read_table(folder / "heldout.parquet").to_pylist():
        messages, known = messages_from_json(json.loads(row["messages"])), choices[row["id"]]
        items.append(HeldoutItem(row["id"], messages[:-1], row["expected"], known["choices"], known["baseline"]))
    return items


def answer_items(
    model: Transformer, tokenizer: Tokenizer, items: Sequence[HeldoutItem], max_new_tokens: int
) -> Replies:
    """Return a model's replies, chosen and spelled. Raises: ValueError for an item that does not fit into the window."""
    prompts = [encode_prompt(item.asked, tokenizer) for item in items]
    pairs = [
        Pair(prompt, encode_turn(Message.of("assistant", choice), tokenizer)[1:])
        for item, prompt in zip(items, prompts, strict=True)
        for choice in item.choices
    ]
    scores = iter([each.nats for each in compute_likelihoods(model, pairs)])
    chosen = [item.choices[int(np.argmin([next(scores) for _ in item.choices]))] for item in items]
    end = tokenizer.get_special_id("end")
    written = generate_batch(model, prompts, max_new_tokens=max_new_tokens, stop_ids=[end])
    replies = [parse_reply(ids, tokenizer) for ids in written]
    return Replies(chosen, ["" if reply.call is not None else reply.text.strip() for reply in replies])


def estimate_right(name: str, given: Sequence[str], expected: Sequence[str]) -> Metrics:
    """Return the fraction of right replies and its standard error, at Laplace's estimate, which is not 0 if all are right."""
    n, k = len(given), sum(reply == right for reply, right in zip(given, expected, strict=True))
    p = (k + 1) / (n + 2)
    return {f"{name}_frac": k / n, f"{name}_frac_se": math.sqrt(p * (1 - p) / n)}


def estimate_gain(before: Sequence[str], after: Sequence[str], expected: Sequence[str]) -> Metrics:
    """Return the mean difference of two models on the same items, and its standard error."""
    gains = np.array([(b == e) * 1.0 - (a == e) for a, b, e in zip(before, after, expected, strict=True)])
    se = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return {"gain_frac": float(gains.mean()), "gain_frac_se": se}


def _write_items(path: Path, items: Sequence[HeldoutItem], before: Replies, after: Replies) -> None:
    rows: list[Mapping[str, object]] = [
        {
            "id": item.id,
            "asked": item.asked[-1].text,
            "expected": item.expected,
            "baseline": item.baseline,
            "base": {"chosen": before.chosen[number], "spelled": before.spelled[number]},
            "tuned": {"chosen": after.chosen[number], "spelled": after.spelled[number]},
        }
        for number, item in enumerate(items)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
