"""Truncation cuts whole rounds, oldest first, keeps the system prompt, and says what it did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.conversation.events import Message, ToolCall
from service.answers.fit_rounds import N_FRAME_TOKENS, fit_rounds, list_rounds
from service.service_error import ServiceError

USER, SYSTEM = Message.of("user", "12"), Message.of("system", "be brief")
TOOL_ROUND = [USER, Message.calling(ToolCall.of("calculator", "1")), Message.result("1"), Message.of("assistant", "1")]


def count(message: Message) -> int:
    return 2 + len(message.text) + (5 if message.call else 0)


def count_all(messages: list[Message] | tuple[Message, ...]) -> int:
    return N_FRAME_TOKENS + sum(map(count, messages))


ROUNDS = st.lists(
    st.one_of(st.just([USER, Message.of("assistant", "yes")]), st.just(TOOL_ROUND), st.just([USER])), max_size=8
)


@given(ROUNDS, st.booleans(), st.integers(0, 120), st.integers(1, 20))
def test_what_is_kept_is_the_longest_end_that_fits(
    rounds: list[list[Message]], has_system: bool, window: int, reserved: int
) -> None:
    system = [SYSTEM] if has_system else []
    rounds = [*rounds, [Message.of("user", "the last one")]]
    messages = [*system, *(message for each in rounds for message in each)]
    fitting = [  # for each number of oldest rounds that are left out
        [*system, *(message for each in rounds[n:] for message in each)] for n in range(len(rounds))
    ]
    fitting = [each for each in fitting if count_all(each) <= window - reserved]
    if not fitting:
        with pytest.raises(ServiceError, match=f"{reserved} reserved") as error:
            fit_rounds(messages, count, window=window, reserved=reserved, truncation="auto")
        assert (error.value.status, error.value.code) == (400, "context_length_exceeded")
        return
    fitted = fit_rounds(messages, count, window=window, reserved=reserved, truncation="auto")
    assert list(fitted.messages) == fitting[0]
    assert fitted.n_prompt_tokens == count_all(fitted.messages)
    assert fitted.n_left_out == len(messages) - len(fitted.messages)
    assert bool(fitted.notice) == bool(fitted.n_left_out)
    if fitted.n_left_out:
        with pytest.raises(ServiceError, match=str(count_all(messages))):
            fit_rounds(messages, count, window=window, reserved=reserved)


def test_rounds_keep_calls_with_their_results() -> None:
    assert list_rounds([SYSTEM, *TOOL_ROUND, USER, SYSTEM, *TOOL_ROUND]) == [[1, 2, 3, 4], [5], [7, 8, 9, 10]]


def test_each_message_is_counted_once() -> None:
    counted: list[Message] = []

    def count_once(message: Message) -> int:
        counted.append(message)
        return 4

    fit_rounds([USER] * 2_000, count_once, window=500, reserved=50, truncation="auto")
    assert len(counted) == 2_000
