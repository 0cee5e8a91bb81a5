"""Leaks: a prompt that training has with a reply is found, wherever it is, and nothing else is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate.trained_on.leaks import find_leaked

TEXTS = st.sampled_from(["hello", "what is a list?", "and a dict?", "thank you"])


def say(role: str, content: str = "", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def converse(*texts: str) -> list[dict[str, Any]]:
    return [say("assistant" if index % 2 else "user", text) for index, text in enumerate(texts)]


CALL = [say("user", "2 + 2?"), say("assistant", call={"name": "calculator", "argument": "2 + 2"}), say("tool", "4")]


def test_a_prompt_in_the_middle_of_a_training_conversation_is_found() -> None:
    training = [[say("system", "Be brief."), *converse("hi", "hello"), *CALL, say("assistant", "2 + 2 = 4")]]
    assert find_leaked({"a": CALL, "b": CALL[:1]}, training) == {"a", "b"}


def test_another_call_another_order_or_no_reply_is_no_leak() -> None:
    other = [CALL[0], say("assistant", call={"name": "calculator", "argument": "4"}), CALL[2]]
    training = [[*other, say("assistant", "4")], converse("hello", "2 + 2?", "hi", "what?"), CALL[:1], CALL]
    assert find_leaked({"a": CALL}, training) == set()
    assert find_leaked({"end": converse("hello", "2 + 2?", "hi", "what?")}, training) == set()


def test_the_system_prompt_does_not_hide_a_leak() -> None:
    prompt = [say("system", "You are a pirate."), *converse("who are you?")]
    assert find_leaked({"a": prompt}, [converse("who are you?", "MiniGPT")]) == {"a"}
    assert find_leaked({"empty": [say("system", "x")]}, [converse("who are you?", "MiniGPT")]) == set()


@given(st.lists(st.lists(TEXTS, min_size=1, max_size=6), max_size=6), st.lists(TEXTS, min_size=1, max_size=3))
def test_it_equals_a_search_through_all_positions(training: list[list[str]], prompt: list[str]) -> None:
    conversations, wanted = [converse(*texts) for texts in training], converse(*prompt)
    expected = any(
        messages[start : start + len(wanted)] == wanted and start + len(wanted) < len(messages)
        for messages in conversations
        for start in range(len(messages))
    )
    assert find_leaked({"a": wanted}, conversations) == ({"a"} if expected else set())
