"""Measure the skills on held-out items by free generation, before and after, and say which have fallen.

In: a model, heldout.parquet of the stage conversations. Out: the fraction right of each skill, and which one has lost more than
its tolerance. Items are the first ones of each skill in the file's order, so that both measurements have the same. Time: a greedy
answer per item. Covers: what the model writes by itself. Does not cover: the assistant, which chooses among answers that the
passages allow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from model.inference.generate import generate_batch
from model.network.transformer import Transformer
from model.tokenizer.chat import encode_prompt, messages_from_json, parse_reply
from model.tokenizer.tokenizer import Tokenizer
from pipeline.skills import SKILLS
from pipeline.skills.skill import Item
from pipeline.storage.tables import read_table

MAX_NEW_TOKENS = 96
SkillScores = Mapping[str, Sequence[float]]  # by skill: the number of items, the fraction right


class SkillChange(NamedTuple):
    """One skill before and after; `is_fallen`: by more than `max_drop`."""

    name: str
    n_items: int
    before: float
    after: float
    max_drop: float

    @property
    def is_fallen(self) -> bool:
        return self.before - self.after > self.max_drop


def read_heldout_items(path: Path, n_per_skill: int) -> list[Item]:
    """Return the items that are among the first `n_per_skill` of any skill."""
    counts = dict.fromkeys((skill.name for skill in SKILLS), 0)
    items: list[Item] = []
    for row in read_table(path, ["id", "kind", "messages", "expected"]).to_pylist():
        messages = messages_from_json(json.loads(row["messages"]))
        prompt = messages[:-1] if messages[-1].role == "assistant" else messages
        item = Item(row["id"], row["kind"], prompt, _read_expected(row["expected"]))
        skills = [skill.name for skill in SKILLS if skill.applies(item) and counts[skill.name] < n_per_skill]
        if skills:
            items.append(item)
        for name in skills:
            counts[name] += 1
    return items


def _read_expected(text: str) -> dict[str, Any]:
    """Return what a scorer compares a reply with; the stage `domain` writes the reply itself."""
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    return cast("dict[str, Any]", expected) if isinstance(expected, dict) else {"answer": text}


def measure_skills(model: Transformer, tokenizer: Tokenizer, items: Sequence[Item]) -> SkillScores:
    """Return the number of items and the fraction right of each skill that has any."""
    prompts = [encode_prompt(item.prompt, tokenizer) for item in items]
    most = model.config.seq_len - MAX_NEW_TOKENS
    fitting = [(item, prompt) for item, prompt in zip(items, prompts, strict=True) if len(prompt) <= most]
    generated = generate_batch(
        model,
        [prompt for _, prompt in fitting],
        max_new_tokens=MAX_NEW_TOKENS,
        stop_ids={tokenizer.get_special_id("end")},
    )
    replies = [parse_reply(ids, tokenizer) for ids in generated]
    results: dict[str, Sequence[float]] = {}
    for skill in SKILLS:
        right = [
            skill.is_right(item, reply)
            for (item, _), reply in zip(fitting, replies, strict=True)
            if skill.applies(item)
        ]
        if right:
            results[skill.name] = (len(right), sum(right) / len(right))
    return results


def compare_skills(before: SkillScores, after: SkillScores, tolerance: float | None) -> list[SkillChange]:
    """Return the change of each skill, judged by `tolerance` or by the skill's own."""
    return [
        SkillChange(
            skill.name,
            int(before[skill.name][0]),
            before[skill.name][1],
            after[skill.name][1],
            skill.max_drop if tolerance is None else tolerance,
        )
        for skill in SKILLS
        if skill.name in before
    ]
