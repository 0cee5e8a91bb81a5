"""Score every skill on its held-out conversations: the assistant's next message, as it is served, right or wrong.

In: heldout.parquet of the stage conversations, whose names, texts and a quarter of whose wordings training never saw. Out: a score
per item and skill that it counts for; samples. Time: 10 s on two cores for 3,000 items.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from assistant.conversation.events import Sampling
from model.tokenizer.chat import Message, encode_prompt, format_call, messages_from_json, messages_to_json
from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.task import Context, Loaded, Measured, Task
from pipeline.evaluate.trained_on.leaks import find_leaked, read_training_conversations
from pipeline.evaluate.user_turns import N_THREADS, NewSession
from pipeline.frame.progress import Bar
from pipeline.skills import SKILLS
from pipeline.skills.skill import Item
from pipeline.skills.tool_choice import TOOL_CHOICE
from pipeline.storage.tables import read_table


def measure_skills(context: Context) -> Measured:
    """Return the score of each item in each skill that it counts for."""
    items = read_items(context.inputs.conversations / "heldout.parquet", context.tuned)
    answers = answer_items(context.new_session, items, context.params.max_new_tokens)
    scores = score_items(items, answers)
    counts = {skill.metric: sum(score.metric == skill.metric for score in scores) for skill in SKILLS}
    prompts = {item.id: messages_to_json(item.prompt) for item in items}
    leaked = find_leaked(prompts, read_training_conversations(context.inputs.conversations))
    return Measured(
        items=scores,
        figures=[Figure(skill.metric, skill.title, skill.meaning) for skill in SKILLS],
        counts={
            **{f"n_heldout_{skill.name}": counts[skill.metric] for skill in SKILLS if counts[skill.metric]},
            "leaked_items_frac": len(leaked) / max(len(items), 1),
        },
        lines={"samples.jsonl": pick_samples(scores, context.params.n_samples)},
    )


def read_items(path: Path, tuned: Loaded) -> list[Item]:
    """Return the held-out items without the right reply at their end; items too long for the model's window are dropped."""
    items: list[Item] = []
    for row in read_table(path).to_pylist():
        messages = messages_from_json(json.loads(row["messages"]), f"{path}: {row['id']}.messages")
        prompt = messages[:-1] if messages[-1].role == "assistant" else messages
        if len(encode_prompt(prompt, tuned.tokenizer)) < tuned.model.config.seq_len:
            items.append(Item(row["id"], row["kind"], prompt, json.loads(row["expected"])))
    return items


def answer_items(new_session: NewSession, items: Sequence[Item], max_new_tokens: int) -> list[Message]:
    """Return the assistant's next message after each prompt, as it is served: with the same choice among candidates."""
    sampling = Sampling(max_tokens=max_new_tokens, temperature=0.0)

    def answer(item: Item) -> Message:
        reply = new_session(history=item.prompt).reply_once(sampling)
        return reply if reply.call is None else Message.calling(replace(reply.call, id=""))

    with Bar("evaluate: conversations", len(items), "answers") as bar, ThreadPoolExecutor(N_THREADS) as pool:
        answers: list[Message] = []
        for reply in pool.map(answer, items):
            answers.append(reply)
            bar.advance(1)
    return answers


def score_items(items: Sequence[Item], answers: Sequence[Message]) -> list[ItemScore]:
    """Return one score for each item and each skill that it counts for, sorted by skill."""
    return [
        ItemScore(
            skill.metric,
            item.id,
            float(skill.is_right(item, answer)),
            prompt=json.dumps(messages_to_json(item.prompt), ensure_ascii=False),
            answer=format_reply(answer),
            expected=json.dumps(item.expected, ensure_ascii=False),
        )
        for skill in SKILLS
        for item, answer in zip(items, answers, strict=True)
        if skill.applies(item)
    ]


def format_reply(reply: Message) -> str:
    """Return a reply as one text; a tool call is marked with an arrow."""
    return "→ " + format_call(reply.call) if reply.call else reply.text


def pick_samples(scores: Sequence[ItemScore], n: int) -> list[dict[str, Any]]:
    """Return `n` scored items, one of each skill in turn, whether right or wrong.

    Items of tool choice are not sampled for it: each of them is an item of another skill, or small talk.
    """
    by_skill = [
        [_describe_sample(skill.name, score) for score in scores if score.metric == skill.metric]
        for skill in SKILLS
        if skill is not TOOL_CHOICE
    ]
    return [group[index] for index in range(n) for group in by_skill if index < len(group)][:n]


def _describe_sample(skill: str, score: ItemScore) -> dict[str, Any]:
    return {
        "id": score.id,
        "skill": skill,
        "is_right": bool(score.score),
        "prompt": score.prompt,
        "answer": score.answer,
        "expected": score.expected,
    }


SKILL_ITEMS = Task("skills", measure_skills)
