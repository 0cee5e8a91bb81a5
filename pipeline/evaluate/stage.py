"""python -m pipeline evaluate: measure what two model folders can do.

In: the pretrained model, the tuned one, held-out documents and conversations. Out: documents.parquet (nats of each held-out
document), skills.parquet (each held-out item, right or wrong), samples.jsonl. The pretrained model is measured in bits per
byte, the tuned one in skills. `python -m pipeline.report` renders the report. Memory: one batch; time: 30 s on 2 cores for
3 million parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from model.network.folder import load_model
from model.network.transformer import Transformer
from model.tokenizer.chat import Message, call_text, messages_from_json, messages_to_json, prompt_ids
from model.tokenizer.tokenizer import Tokenizer
from pipeline.evaluate import measure
from pipeline.evaluate.params import Evaluate
from pipeline.evaluate.tasks.bits_per_byte import bits_per_byte, by_source
from pipeline.evaluate.tasks.fraction import fraction
from pipeline.frame.environment import read
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar
from pipeline.frame.timings import report_timings
from pipeline.skills import (
    abstention,
    calculator,
    calculator_answer,
    identity,
    quote,
    refusal,
    refusal_not_overdone,
    search,
    search_words,
    tool_choice,
)
from pipeline.skills.skill import Item, Task
from pipeline.storage.tables import read_table, write_table

TASKS: tuple[Task, ...] = (
    tool_choice,
    calculator,
    calculator_answer,
    search,
    search_words,
    quote,
    abstention,
    refusal,
    refusal_not_overdone,
    identity,
)
CHAT_TOKENS_FRAC = 0.25  # of the held-out documents: the tuned model's bits per byte only tell how much tuning cost
BEGINNING_TOKENS = 24  # of a document, for the pretrained model to go on with
N_CONTINUATIONS = 3
DOCUMENTS = pa.schema([("id", pa.string()), ("source", pa.string()), ("n_bytes", pa.int64()), ("nats", pa.float64())])
SKILLS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "kind", "skill")),
        ("is_right", pa.bool_()),
        *((name, pa.string()) for name in ("prompt", "answer", "expected")),
    ]
)


class Loaded(NamedTuple):
    model: Transformer
    tokenizer: Tokenizer


def run(params: Evaluate, *, base: Path, chat: Path, shards: Path, conversations: Path, out: Path) -> Metrics:
    device = measure.device_of(read("MINIGPT_DEVICE"))
    pretrained, tuned = (Loaded(*load_model(folder, device=device)[:2]) for folder in (base, chat))
    documents = measure.read_documents(shards, params.eval_tokens, params.seed)
    items = read_items(conversations / "heldout.parquet", tuned)
    metrics = _measure_documents(pretrained.model, tuned.model, documents, out)
    answers = _answer(tuned, items, params.max_new_tokens)
    rows = score(items, answers)
    write_table(out / "skills.parquet", pa.Table.from_pylist(rows, schema=SKILLS))
    metrics |= summarise(rows) | {
        "n_params": tuned.model.config.n_parameters,
        "model_bytes": (chat / "model.safetensors").stat().st_size,
    }
    samples = pick_samples(rows, params.n_samples) + _continuations(pretrained, documents, params.max_new_tokens)
    lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    (out / "samples.jsonl").write_text(lines, encoding="utf-8")
    _report_speed(tuned)
    return metrics


def _measure_documents(
    pretrained: Transformer, tuned: Transformer, documents: measure.HeldoutDocuments, out: Path
) -> Metrics:
    few = measure.first_documents(documents, int(documents.n_tokens * CHAT_TOKENS_FRAC))
    with Bar("evaluate: documents", 0, "windows") as bar:
        nats = measure.nats_of(pretrained, documents, bar.advance)
        chat_nats = measure.nats_of(tuned, few, bar.advance)
    columns = [documents.ids, documents.sources, documents.n_bytes, nats]
    write_table(out / "documents.parquet", pa.table(columns, schema=DOCUMENTS))
    overall, after = bits_per_byte(nats, documents.n_bytes), bits_per_byte(chat_nats, few.n_bytes)
    metrics: Metrics = {"bpb": overall.value, "bpb_se": overall.se, "chat_bpb": after.value, "chat_bpb_se": after.se}
    metrics |= {
        "n_heldout_docs": overall.n,
        "heldout_tokens": documents.n_tokens,
        "heldout_bytes": sum(documents.n_bytes),
    }
    for source, ratio in by_source(documents.sources, nats, documents.n_bytes).items():
        name = f"bpb_{source.removeprefix('python_docs/').replace('/', '_')}"
        metrics |= {name: ratio.value, f"{name}_se": ratio.se}
    return metrics


def read_items(path: Path, tuned: Loaded) -> list[Item]:
    """Without the right answer at their end; those that don't fit into the model's window are left out."""
    items: list[Item] = []
    for row in read_table(path).to_pylist():
        messages = messages_from_json(json.loads(row["messages"]), f"{path}: {row['id']}.messages")
        prompt = messages[:-1] if messages[-1].role == "assistant" else messages
        if len(prompt_ids(prompt, tuned.tokenizer)) < tuned.model.config.seq_len:
            items.append(Item(row["id"], row["kind"], prompt, json.loads(row["expected"])))
    return items


def _answer(tuned: Loaded, items: Sequence[Item], max_new_tokens: int) -> list[Message]:
    with Bar("evaluate: conversations", len(items), "answers") as bar:
        prompts = [item.prompt for item in items]
        return list(measure.replies(tuned.model, tuned.tokenizer, prompts, max_new_tokens, bar.advance))


def score(items: Sequence[Item], answers: Sequence[Message]) -> list[dict[str, Any]]:
    """One row for each skill that an item counts for."""
    return [
        {
            "id": item.id,
            "kind": item.kind,
            "skill": task.SKILL,
            "is_right": task.is_right(item, answer),
            "prompt": json.dumps(messages_to_json(item.prompt), ensure_ascii=False),
            "answer": reply_text(answer),
            "expected": json.dumps(item.expected, ensure_ascii=False),
        }
        for item, answer in zip(items, answers, strict=True)
        for task in TASKS
        if task.applies(item)
    ]


def reply_text(reply: Message) -> str:
    return "→ " + call_text(reply.call) if reply.call else reply.text


def summarise(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    """Share right, its standard error and number of items; a skill without items is left out."""
    metrics: Metrics = {}
    for task in TASKS:
        right = [row["is_right"] for row in rows if row["skill"] == task.SKILL]
        if right:
            share = fraction(right)
            metrics |= {
                f"{task.SKILL}_frac": share.value,
                f"{task.SKILL}_frac_se": share.se,
                f"n_heldout_{task.SKILL}": share.n,
            }
    return metrics


def _report_speed(tuned: Loaded) -> None:
    prompt = prompt_ids([Message.of("user", "What does numpy.linalg.norm do?")], tuned.tokenizer)
    speed = measure.speed(tuned.model, prompt)
    report_timings(**speed._asdict())


def pick_samples(rows: Sequence[Mapping[str, Any]], n: int) -> list[dict[str, Any]]:
    """`n` of the items: in turn one of each skill, wrong ones as they come."""
    by_skill = [[row for row in rows if row["skill"] == task.SKILL] for task in TASKS[1:]]
    turns = [group[place] for place in range(n) for group in by_skill if place < len(group)]
    return [dict(row) for row in turns[:n]]


def _continuations(
    pretrained: Loaded, documents: measure.HeldoutDocuments, max_new_tokens: int
) -> list[dict[str, Any]]:
    longest = min(BEGINNING_TOKENS, pretrained.model.config.seq_len // 2)
    beginnings = [ids[: min(longest, len(ids) // 2)] for ids in documents.tokens if len(ids) > 8][:N_CONTINUATIONS]
    written = measure.continuations(pretrained.model, pretrained.tokenizer, beginnings, max_new_tokens)
    return [
        {"skill": "continuation", "prompt": pretrained.tokenizer.decode(ids), "answer": text}
        for ids, text in zip(beginnings, written, strict=True)
    ]
