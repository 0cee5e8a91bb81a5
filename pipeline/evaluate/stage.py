"""Measure the finished models: bits per byte of the pretrained one, skills of the tuned one, and the whole assistant.

In: both model folders, held-out documents and conversations, the index, and turns typed by hand (data/seed/evaluation). Out:
documents.parquet (nats of each held-out document), skills.parquet (each held-out item, right or wrong), user_turns.jsonl (the
assistant's replies to the seen half of the typed turns), samples.jsonl, and what `dvc metrics` and `dvc plots` show
(comparison.py). `python -m pipeline.report` renders the report. Memory: one batch. Time: 45 s on 2 cores for 3 million parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from assistant.conversation.events import Sampling
from model.network.folder import load_model
from model.network.transformer import Transformer
from model.tokenizer.chat import Message, encode_prompt, format_call, messages_from_json, messages_to_json
from model.tokenizer.tokenizer import Tokenizer
from pipeline.evaluate import measure
from pipeline.evaluate.comparison import write_comparison
from pipeline.evaluate.estimates import estimate_bits_per_byte, estimate_by_source, estimate_fraction
from pipeline.evaluate.judging import read_conversations
from pipeline.evaluate.params import Evaluate
from pipeline.evaluate.planted import N_PLANTED, measure_planted
from pipeline.evaluate.user_turns import N_THREADS, NewSession, load_engine, measure_user_turns, open_assistant
from pipeline.frame.environment import read
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar
from pipeline.frame.timings import report_timings
from pipeline.skills import SKILLS
from pipeline.skills.skill import Item
from pipeline.skills.tool_choice import TOOL_CHOICE
from pipeline.storage.tables import read_table, write_table

CHAT_TOKENS_FRAC = 0.25  # of the held-out documents: the tuned model's bits per byte only show how much tuning cost
BEGINNING_TOKENS = 24  # of a document, for the pretrained model to continue
N_CONTINUATIONS = 3
DOCUMENTS = pa.schema([("id", pa.string()), ("source", pa.string()), ("n_bytes", pa.int64()), ("nats", pa.float64())])
SCORES = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "kind", "skill")),
        ("is_right", pa.bool_()),
        *((name, pa.string()) for name in ("prompt", "answer", "expected")),
    ]
)


class Loaded(NamedTuple):
    """A model in memory with its tokenizer."""

    model: Transformer
    tokenizer: Tokenizer


def run(
    params: Evaluate,
    *,
    base: Path,
    chat: Path,
    shards: Path,
    conversations: Path,
    index: Path,
    embed: Path,
    turns: Path,
    out: Path,
) -> Metrics:
    """Write these files. Raises `UserError` if the val split is too small to measure anything, or for a wrong typed turn."""
    device = measure.choose_device(read("MINIGPT_DEVICE"))
    typed = read_conversations(turns) if params.use_typed_turns else {}
    pretrained, tuned = (Loaded(*load_model(folder, device=device)[:2]) for folder in (base, chat))
    documents = measure.read_documents(shards, params.eval_tokens, params.seed)
    items = read_items(conversations / "heldout.parquet", tuned)
    metrics = _measure_documents(pretrained.model, tuned.model, documents, out)
    engine = load_engine(chat, str(device))
    new_session = open_assistant(engine, index, embed)
    answers = answer_items(new_session, items, params.max_new_tokens)
    rows = score_items(items, answers)
    write_table(out / "skills.parquet", pa.Table.from_pylist(rows, schema=SCORES))
    metrics |= summarize_scores(rows) | {
        "n_params": tuned.model.config.n_parameters,
        "model_bytes": (chat / "model.safetensors").stat().st_size,
    }
    user_turns: list[dict[str, Any]] = []
    if typed:
        user_metrics, user_turns = measure_user_turns(new_session, typed, turns)
        metrics |= user_metrics | measure_planted(engine, index, turns, N_PLANTED, params.seed)[0]
    write_lines(out / "user_turns.jsonl", user_turns)
    samples = pick_samples(rows, params.n_samples) + _sample_continuations(pretrained, documents, params.max_new_tokens)
    write_lines(out / "samples.jsonl", samples)
    write_comparison(metrics, {"base": base, "chat": chat}, out)
    _report_speed(tuned)
    return metrics


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON value per line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _measure_documents(
    pretrained: Transformer, tuned: Transformer, documents: measure.HeldoutDocuments, out: Path
) -> Metrics:
    few = measure.take_first_documents(documents, int(documents.n_tokens * CHAT_TOKENS_FRAC))
    with Bar("evaluate: documents", 0, "windows") as bar:
        nats = measure.measure_heldout_nats(pretrained, documents, bar.advance)
        chat_nats = measure.measure_heldout_nats(tuned, few, bar.advance)
    columns = [documents.ids, documents.sources, documents.n_bytes, nats]
    write_table(out / "documents.parquet", pa.table(columns, schema=DOCUMENTS))
    overall = estimate_bits_per_byte(nats, documents.n_bytes)
    after_tuning = estimate_bits_per_byte(chat_nats, few.n_bytes)
    metrics: Metrics = {
        "bpb": overall.value,
        "bpb_se": overall.se,
        "chat_bpb": after_tuning.value,
        "chat_bpb_se": after_tuning.se,
        "n_heldout_docs": overall.n,
        "heldout_tokens": documents.n_tokens,
        "heldout_bytes": sum(documents.n_bytes),
    }
    for source, estimate in estimate_by_source(documents.sources, nats, documents.n_bytes).items():
        name = f"bpb_{source.removeprefix('python_docs/').replace('/', '_')}"
        metrics |= {name: estimate.value, f"{name}_se": estimate.se}
    return metrics


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


def score_items(items: Sequence[Item], answers: Sequence[Message]) -> list[dict[str, Any]]:
    """Return one row of `SCORES` for each item and each skill that it counts for."""
    return [
        {
            "id": item.id,
            "kind": item.kind,
            "skill": skill.name,
            "is_right": skill.is_right(item, answer),
            "prompt": json.dumps(messages_to_json(item.prompt), ensure_ascii=False),
            "answer": format_reply(answer),
            "expected": json.dumps(item.expected, ensure_ascii=False),
        }
        for item, answer in zip(items, answers, strict=True)
        for skill in SKILLS
        if skill.applies(item)
    ]


def format_reply(reply: Message) -> str:
    """Return a reply as one text; a tool call is marked with an arrow."""
    return "→ " + format_call(reply.call) if reply.call else reply.text


def summarize_scores(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    """Return the fraction right, its standard error and the number of items of each skill that has items."""
    metrics: Metrics = {}
    for skill in SKILLS:
        right = [row["is_right"] for row in rows if row["skill"] == skill.name]
        if right:
            fraction = estimate_fraction(right)
            metrics |= {
                skill.metric: fraction.value,
                f"{skill.metric}_se": fraction.se,
                f"n_heldout_{skill.name}": fraction.n,
            }
    return metrics


def _report_speed(tuned: Loaded) -> None:
    """Report the speed of the tuned model as timings, which are no metrics: the same weights must give the same bytes."""
    prompt = encode_prompt([Message.of("user", "What does numpy.linalg.norm do?")], tuned.tokenizer)
    speed = measure.measure_speed(tuned.model, prompt)
    report_timings(**speed._asdict())


def pick_samples(rows: Sequence[Mapping[str, Any]], n: int) -> list[dict[str, Any]]:
    """Return `n` scored items, one of each skill in turn, whether right or wrong.

    Items of tool choice are not sampled for it: each of them is an item of another skill, or small talk.
    """
    by_skill = [[row for row in rows if row["skill"] == skill.name] for skill in SKILLS if skill is not TOOL_CHOICE]
    in_turn = [group[index] for index in range(n) for group in by_skill if index < len(group)]
    return [dict(row) for row in in_turn[:n]]


def _sample_continuations(
    pretrained: Loaded, documents: measure.HeldoutDocuments, max_new_tokens: int
) -> list[dict[str, Any]]:
    longest = min(BEGINNING_TOKENS, pretrained.model.config.seq_len // 2)
    beginnings = [ids[: min(longest, len(ids) // 2)] for ids in documents.tokens if len(ids) > 8][:N_CONTINUATIONS]
    continuations = measure.generate_continuations(pretrained.model, pretrained.tokenizer, beginnings, max_new_tokens)
    return [
        {"skill": "continuation", "prompt": pretrained.tokenizer.decode(ids), "answer": text}
        for ids, text in zip(beginnings, continuations, strict=True)
    ]
