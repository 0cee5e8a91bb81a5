"""Run turns typed by hand through the whole assistant, as it is served: session, tools, search, choice of answers.

    python -m pipeline.evaluate.user_turns --model data/sft --index data/index [--embed data/embed] [--kind typos]

prints a table by kind and the turns of the seen half that failed; of the unseen half it prints totals only. The stage
evaluate measures the same. Greedy and deterministic: conversations do not depend on each other, so threads may share the engine
(the decoder releases the GIL). Time: 20 s on two cores for 390 turns and 200 first turns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from assistant.conversation.events import Sampling, ToolCall, ToolResult
from assistant.conversation.session import Session
from assistant.inference.local import ModelEngine
from assistant.tools.toolbox import make_tools
from pipeline.evaluate.item_scores import ItemScore, list_metrics, summarize_items
from pipeline.evaluate.judging import (
    KINDS,
    Expectation,
    Reply,
    TurnVerdict,
    TypedConversation,
    describe_reply,
    judge_reply,
    read_conversations,
)
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar
from pipeline.storage.lines import read_json_list

GREEDY = Sampling(temperature=0.0)
N_THREADS = 2
HARMLESS = "harmless.jsonl"
HARMLESS_REFUSED = "harmless_refused_frac"

NewSession = Callable[..., Session]  # takes what Session takes beside the engine and the tools


@dataclass(frozen=True)
class JudgedTurn:
    """One turn with the reply and the verdict on it."""

    kind: str
    conversation: TypedConversation
    number: int  # in the conversation
    expected: Expectation
    reply: Reply
    calls: Sequence[ToolCall]
    verdict: TurnVerdict


def load_engine(model: Path, device: str) -> ModelEngine:
    """Load the model. Raises `UserError` if it can't be loaded."""
    try:
        engine = ModelEngine.load(model, device=device)
    except ValueError as error:
        raise UserError("evaluate: the model can't be loaded", str(error), "name another folder") from error
    engine.wait()
    return engine


def open_assistant(engine: ModelEngine, index: Path, embed: Path | None = None) -> NewSession:
    """Return a function that starts a conversation. Raises `UserError` if the index can't be opened."""
    try:
        return partial(Session, engine, make_tools(index, embed))
    except ValueError as error:
        raise UserError("evaluate: the index can't be opened", str(error), "name other folders") from error


def run_conversation(new_session: NewSession, kind: str, conversation: TypedConversation) -> list[JudgedTurn]:
    """Return the judged turns of one conversation; each is asked even if an earlier one failed, as a person would."""
    session = new_session()
    sources: list[str] = []
    judged: list[JudgedTurn] = []
    for number, expected in enumerate(conversation.turns):
        sources.append(expected.user)
        reply, calls = send_text(session, expected.user)
        sources += reply.results
        verdict = judge_reply(expected, reply, sources)
        judged.append(JudgedTurn(kind, conversation, number, expected, reply, calls, verdict))
    return judged


def send_text(session: Session, text: str) -> tuple[Reply, list[ToolCall]]:
    """Send one message. Return the reply and the tool calls."""
    events = list(session.send(text, GREEDY))
    calls = [event for event in events if isinstance(event, ToolCall)]
    results = [event.text for event in events if isinstance(event, ToolResult)]
    answer = session.history[-1].text if session.history and session.history[-1].role == "assistant" else ""
    return Reply(answer, [call.name for call in calls], results), calls


def run_conversations(
    new_session: NewSession, conversations: Mapping[str, Iterable[TypedConversation]]
) -> list[JudgedTurn]:
    """Return the judged turns of all conversations, in their order."""
    pairs = [(kind, conversation) for kind, group in conversations.items() for conversation in group]
    with Bar("evaluate: user's turns", len(pairs), "conversations") as bar, ThreadPoolExecutor(N_THREADS) as pool:
        judged: list[JudgedTurn] = []
        for turns in pool.map(lambda pair: run_conversation(new_session, *pair), pairs):
            judged += turns
            bar.advance(1)
    return judged


def score_harmless(new_session: NewSession, path: Path) -> tuple[list[ItemScore], list[dict[str, Any]]]:
    """Return which harmless first turns are refused, and the refused ones of the seen half."""
    rows = [row for _, row in read_json_list(path)]
    with ThreadPoolExecutor(N_THREADS) as pool:
        replies = list(pool.map(lambda row: send_text(new_session(), row["user"])[0], rows))
    is_refused = ["refuses" in describe_reply(reply) for reply in replies]
    scores = [
        _show(ItemScore(HARMLESS_REFUSED, row["id"], float(is_it)), row["half"], row["user"], reply.text)
        for row, reply, is_it in zip(rows, replies, is_refused, strict=True)
    ]
    refused = [
        {**row, "reply": reply.text}
        for row, reply, is_it in zip(rows, replies, is_refused, strict=True)
        if is_it and row["half"] == "seen"
    ]
    return scores, refused


def _show(score: ItemScore, half: str, prompt: str, answer: str) -> ItemScore:
    """Return the score with its texts; those of the unseen half are not shown to anybody."""
    return score._replace(prompt=prompt, answer=answer) if half == "seen" else score


def score_turns(judged: Sequence[JudgedTurn]) -> list[ItemScore]:
    """Return whether each reply is acceptable: in all, by half and by kind. The turns of a conversation depend on each other."""
    names: dict[str, list[JudgedTurn]] = {"user_turns": list(judged)}
    for half in ("seen", "unseen"):
        names[f"user_turns_{half}"] = [turn for turn in judged if turn.conversation.half == half]
    for kind in KINDS:
        names[f"user_{kind}"] = [turn for turn in judged if turn.kind == kind]
    return [score_turn(f"{name}_acceptable_frac", turn) for name, turns in names.items() for turn in turns]


def score_turn(metric: str, turn: JudgedTurn) -> ItemScore:
    id_ = f"{turn.conversation.id}:{turn.number}"
    score = ItemScore(metric, id_, float(turn.verdict.is_acceptable), turn.conversation.id)
    return _show(score, turn.conversation.half, turn.expected.user, turn.reply.text)


def count_turns(judged: Sequence[JudgedTurn]) -> Metrics:
    """Return the counts of turns, and of what must not happen."""
    values = [turn for turn in judged if turn.expected.answer == ["value"]]
    kinds = {f"n_user_{kind}": sum(turn.kind == kind for turn in judged) for kind in KINDS}
    halves = {
        f"n_user_turns_{half}": sum(turn.conversation.half == half for turn in judged) for half in ("seen", "unseen")
    }
    return {
        "n_user_turns": len(judged),
        **{name: n for name, n in (halves | kinds).items() if n},
        "n_user_citations": sum(turn.verdict.n_citations for turn in judged),
        "n_invented_citations": sum(turn.verdict.n_invented for turn in judged),
        "n_user_values": len(values),
        "n_wrong_values": sum(turn.verdict.is_wrong_value for turn in values),
    }


def summarize_turns(judged: Sequence[JudgedTurn]) -> Metrics:
    """Return the fraction of acceptable replies, in all, by half and by kind, and the counts of what must not happen."""
    return list_metrics(summarize_items(score_turns(judged))) | count_turns(judged)


def list_transcripts(judged: Sequence[JudgedTurn]) -> list[dict[str, Any]]:
    """Return the turns of the seen half as JSON values: what was typed, called and answered, and the verdict."""
    return [
        {
            "id": turn.conversation.id,
            "kind": turn.kind,
            "user": turn.expected.user,
            "calls": [{"name": call.name, "argument": call.argument} for call in turn.calls],
            "reply": turn.reply.text,
            "is_acceptable": turn.verdict.is_acceptable,
            "problem": turn.verdict.problem,
        }
        for turn in judged
        if turn.conversation.half == "seen"
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how the assistant does on the user's turns. Return the exit code."""
    args = _parse_arguments(arguments)
    try:
        conversations = read_conversations(args.turns)
        if args.kind:
            conversations = {kind: group for kind, group in conversations.items() if kind in args.kind}
        if args.half:
            conversations = {kind: [c for c in group if c.half == args.half] for kind, group in conversations.items()}
        new_session = open_assistant(load_engine(args.model, "cpu"), args.index, args.embed)
        judged = run_conversations(new_session, conversations)
        metrics = summarize_turns(judged)
        if not args.kind:
            harmless, refused = score_harmless(new_session, args.turns / HARMLESS)
            metrics |= list_metrics(summarize_items(harmless)) | {"n_harmless": len(harmless)}
            for row in refused:
                print(f"harmless, refused: {row['user']!r} → {row['reply']!r}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(_format_report(judged, metrics, show_all=args.all))
    return 0


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluate.user_turns", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("data/sft"), help="model folder (default: data/sft)")
    parser.add_argument("--index", type=Path, default=Path("data/index"), help="index folder (default: data/index)")
    parser.add_argument("--embed", type=Path, help="folder of the stage embed (default: no embedder, no reranker)")
    parser.add_argument("--turns", type=Path, default=Path("data/seed/evaluation"), help="folder of the turns")
    parser.add_argument("--half", choices=("seen", "unseen"), help="one half only")
    parser.add_argument("--kind", action="append", choices=KINDS, help="this kind only (may be repeated)")
    parser.add_argument("--all", action="store_true", help="print acceptable turns of the seen half too")
    return parser.parse_args(arguments)


def _format_report(judged: Sequence[JudgedTurn], metrics: Mapping[str, float], *, show_all: bool) -> str:
    lines: list[str] = []
    for row in list_transcripts(judged):
        if show_all or not row["is_acceptable"]:
            calls = "".join(f"  → {call['name']}({call['argument']!r})\n" for call in row["calls"])
            verdict = row["problem"] or "acceptable"
            lines.append(f"{row['id']}: {row['user']!r}\n{calls}  {row['reply']!r}\n  {verdict}\n")
    names = ["user_turns", "user_turns_seen", "user_turns_unseen", *(f"user_{kind}" for kind in KINDS)]
    for name in names:
        if f"n_{name}" in metrics:
            value, se = metrics[f"{name}_acceptable_frac"], metrics[f"{name}_acceptable_frac_se"]
            lines.append(f"{name:24} {100 * value:5.1f} % ± {100 * se:4.1f}  of {metrics[f'n_{name}']:3} turns")
    lines += [
        f"{name:24} {value:.4g}" for name, value in metrics.items() if "acceptable" not in name and "user_" not in name
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
