"""Run typed turns: replies in order whatever the threads, fractions by half and kind, transcripts of the seen half only."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from assistant.conversation.events import Event, Message, Sampling, TextPiece, ToolCall, ToolResult
from pipeline.evaluate.judging import TypedConversation
from pipeline.evaluate.user_turns import (
    HARMLESS_REFUSED,
    list_transcripts,
    main,
    run_conversations,
    score_harmless,
    score_turns,
    send_text,
    summarize_turns,
)
from pipeline.report.labels import USER_KINDS


class Parrot:
    """A session that calls the calculator for digits, refuses "no", and repeats everything else."""

    def __init__(self) -> None:
        self.history: list[Message] = []

    def send(self, text: str, _sampling: Sampling) -> Generator[Event, None, None]:
        self.history.append(Message.of("user", text))
        answer = "I can't help with that." if text == "no" else text
        if text.isdigit():
            call = ToolCall.of("calculator", text)
            yield call
            yield ToolResult(call, text)
            answer = f"{text} = {text}"
        yield TextPiece(answer)
        self.history.append(Message.of("assistant", answer))


def talk(id_: str, half: str, *turns: dict[str, Any]) -> TypedConversation:
    return TypedConversation.model_validate({"id": id_, "half": half, "turns": list(turns)})


def say(text: str, *answer: str, **more: Any) -> dict[str, Any]:
    return {"user": text, "answer": list(answer), **more}


TALKS = {
    "small_talk": [
        talk(f"a{n}", ("seen", "unseen")[n % 2], say(f"hi {n}", "talks", says=[f"{n}"]), say("no", "talks"))
        for n in range(40)
    ],
    "calculation": [
        talk("b1", "seen", say("12", "value", number=12)),
        talk("b2", "unseen", say("13", "value", number=12)),
    ],
}


def test_a_reply_is_the_last_answer_with_calls_and_results() -> None:
    reply, calls = send_text(Parrot(), "12")  # type: ignore[arg-type]
    assert (reply.text, reply.tools, reply.results) == ("12 = 12", ["calculator"], ["12"])
    assert calls == [ToolCall.of("calculator", "12")]


def test_every_conversation_is_judged_in_order() -> None:
    judged = run_conversations(Parrot, TALKS)  # type: ignore[arg-type]
    turns = [(kind, talk_.id, turn.user) for kind, group in TALKS.items() for talk_ in group for turn in talk_.turns]
    assert [(each.kind, each.conversation.id, each.expected.user) for each in judged] == turns
    assert [each.verdict.is_acceptable for each in judged] == [True, False] * 40 + [True, False]


def test_fractions_by_half_and_kind() -> None:
    metrics = summarize_turns(run_conversations(Parrot, TALKS))  # type: ignore[arg-type]
    assert metrics["user_small_talk_acceptable_frac"] == 0.5
    assert metrics["user_turns_acceptable_frac"] == pytest.approx(41 / 82)
    assert (metrics["n_user_turns"], metrics["n_user_turns_seen"], metrics["n_user_turns_unseen"]) == (82, 41, 41)
    assert (metrics["n_user_values"], metrics["n_wrong_values"]) == (2, 1)
    assert all(metrics[f"{name}_se"] > 0 for name in metrics if name.endswith("_frac"))
    assert not any(f"user_{kind}_acceptable_frac" in metrics for kind in USER_KINDS.keys() - TALKS.keys())


def test_items_of_the_unseen_half_have_no_texts() -> None:
    scores = score_turns(run_conversations(Parrot, TALKS))  # type: ignore[arg-type]
    seen = {talk_.id for group in TALKS.values() for talk_ in group if talk_.half == "seen"}
    assert {each.group for each in scores if each.prompt} == seen
    assert {each.group for each in scores if each.answer} == seen
    assert len({(each.metric, each.id) for each in scores}) == len(scores)


def test_transcripts_are_of_the_seen_half() -> None:
    rows = list_transcripts(run_conversations(Parrot, TALKS))  # type: ignore[arg-type]
    assert {row["id"] for row in rows} == {f"a{n}" for n in range(0, 40, 2)} | {"b1"}
    assert [row["problem"] == "" for row in rows] == [row["is_acceptable"] for row in rows]
    assert rows[-1]["calls"] == [{"name": "calculator", "argument": "12"}]


def test_refusals_of_harmless_turns_are_counted_in_both_halves_and_shown_of_one(tmp_path: Path) -> None:
    rows = [
        {"id": f"{n}", "half": half, "user": text}
        for n, (half, text) in enumerate([("seen", "no"), ("unseen", "no"), ("seen", "hi")])
    ]
    (tmp_path / "harmless.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores, refused = score_harmless(Parrot, tmp_path / "harmless.jsonl")  # type: ignore[arg-type]
    assert [(each.metric, each.score) for each in scores] == [(HARMLESS_REFUSED, score) for score in (1.0, 1.0, 0.0)]
    assert [each.prompt for each in scores] == ["no", "", "hi"]
    assert [row["id"] for row in refused] == ["0"]


def test_the_command_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--turns", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err
