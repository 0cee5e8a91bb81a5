"""What a window keeps: the system prompt and the last round always, old passages least."""

from __future__ import annotations

import pytest

from model.tokenizer.chat import Message, ToolCall, encode_prompt
from model.tokenizer.tokenizer import train_bpe
from model.tokenizer.window import fit_to_window
from tests.model.conftest import SENTENCES

TOKENIZER = train_bpe(SENTENCES * 4, 320)
SYSTEM, MEMORY = Message.of("system", "Be brief."), Message.of("system", "The user is called Ada.")


def make_rounds(n: int) -> list[Message]:
    """Return rounds with a search each, whose results are much longer than the questions and answers."""
    return [
        message
        for number in range(n)
        for message in (
            Message.of("user", f"q{number}"),
            Message.calling(ToolCall.of("search_docs", f"n{number}")),
            Message.result(f"[n{number}] " + "the sum of the array " * 12),
            Message.of("assistant", f"a{number}"),
        )
    ]


def count(messages: list[Message]) -> int:
    return len(encode_prompt(messages, TOKENIZER))


def test_old_passages_are_dropped_before_old_turns() -> None:
    rounds = make_rounds(5)
    messages = [SYSTEM, *rounds, Message.of("user", "last")]
    kept = fit_to_window(messages, TOKENIZER, count(messages) + 9, 10)
    assert [message.text for message in kept if message.role == "user"] == [*(f"q{n}" for n in range(5)), "last"]
    results = [message for message in kept if message.role == "tool"]
    assert 0 < len(results) < 5
    assert results == [message for message in rounds if message.role == "tool"][-len(results) :]
    assert sum(message.call is not None for message in kept) == len(results)
    assert count(kept) <= (count(messages) + 9) // 2


def test_the_last_round_keeps_its_passages() -> None:
    messages = [SYSTEM, *make_rounds(3)[:-1]]
    kept = fit_to_window(messages, TOKENIZER, count(messages[-3:]) + 30, 10)
    assert kept[-3:] == messages[-3:]
    assert kept[0] == SYSTEM


def test_turns_are_dropped_when_no_passage_is_left() -> None:
    messages = [
        SYSTEM,
        *(Message.of(role, "the sum of the array") for _ in range(20) for role in ("user", "assistant")),
    ]
    kept = fit_to_window([*messages, Message.of("user", "last")], TOKENIZER, 150, 10)
    assert kept == [SYSTEM, *[*messages, Message.of("user", "last")][-len(kept) + 1 :]]


def test_memory_is_kept_before_old_turns_and_dropped_before_the_question_is_cut() -> None:
    messages = [SYSTEM, MEMORY, *make_rounds(4), Message.of("user", "last")]
    assert fit_to_window(messages, TOKENIZER, count(messages), 10)[:2] == [SYSTEM, MEMORY]
    question = Message.of("user", "the sum of the array " * 6)
    size = count([SYSTEM, question])
    assert fit_to_window([SYSTEM, MEMORY, question], TOKENIZER, size + 10, 10) == [SYSTEM, question]


@pytest.mark.parametrize("max_tokens", [200, 350])
def test_between_two_overflows_the_prompt_only_grows(max_tokens: int) -> None:
    """What is kept changes only when the prompt would not fit, which is what keeps a KV cache valid."""
    messages, last = [SYSTEM], [SYSTEM]
    n_changes = n_prompts = 0
    for message in make_rounds(30):
        messages.append(message)
        if message.role in ("user", "tool"):
            kept = fit_to_window(messages, TOKENIZER, max_tokens, 10)
            n_prompts += 1
            n_changes += kept[: len(last)] != last
            assert count(kept) <= max_tokens - 10
            last = kept
    assert 0 < n_changes <= n_prompts * 2 // 3
