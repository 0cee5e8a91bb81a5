"""Fit a conversation into the model's window by leaving out whole rounds, or refuse it with the counts.

In: messages, how many tokens each takes, the window, and how many tokens are reserved for the answer. Out: what is sent, and what
was left out. A round is a user's message with everything up to the next one: calls and results of tools stay together. System
messages and the last round are never left out, and no message is shortened: what still does not fit is refused.
Time: linear; each message is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from assistant.conversation.events import Message
from service.service_error import ServiceError

N_FRAME_TOKENS = 2  # of a prompt beside its turns: <|bos|> and the <|assistant|> that requests the answer


@dataclass(frozen=True)
class FittedConversation:
    """What is sent. `n_left_out` messages of `n_rounds_left_out` rounds are not; `notice` says so to the user, empty if none."""

    messages: tuple[Message, ...]
    n_prompt_tokens: int
    n_left_out: int = 0
    n_rounds_left_out: int = 0
    notice: str = ""


def fit_rounds(
    messages: Sequence[Message],
    count: Callable[[Message], int],
    *,
    window: int,
    reserved: int,
    truncation: Literal["disabled", "auto"] = "disabled",
    param: str = "messages",
) -> FittedConversation:
    """Return what fits. `count`: the tokens of a whole turn; `param`: the field that errors name.

    Raises: ServiceError 400 with the counts if it is too long, with
    `auto` if the system messages and the last round alone are."""
    sizes = [count(message) for message in messages]
    total, budget = N_FRAME_TOKENS + sum(sizes), window - reserved
    if total <= budget:
        return FittedConversation(tuple(messages), total)
    if truncation == "disabled":
        advice = 'shorten them, ask for fewer tokens, or set truncation to "auto"'
        raise _make_error(f"{param} must fit the window of {window} tokens", param, total, window, reserved, advice)
    dropped, n_rounds = set[int](), 0
    for number in list_rounds(messages)[:-1]:
        if total <= budget:
            break
        total -= sum(sizes[index] for index in number)
        dropped |= set(number)
        n_rounds += 1
    if total > budget:
        advice = "shorten it, or ask for fewer tokens"
        raise _make_error(
            f"the last round of {param} must fit the window of {window} tokens", param, total, window, reserved, advice
        )
    kept = tuple(message for index, message in enumerate(messages) if index not in dropped)
    rounds = "the oldest round" if n_rounds == 1 else f"the {n_rounds} oldest rounds"
    notice = (
        f"the window of {window} tokens is full; {rounds} ({len(dropped)} messages) of this conversation are left out"
    )
    return FittedConversation(kept, total, len(dropped), n_rounds, notice)


def list_rounds(messages: Sequence[Message]) -> list[list[int]]:
    """Return the indices of each round's messages. System messages belong to none."""
    rounds: list[list[int]] = []
    for index, message in enumerate(messages):
        if message.role == "system":
            continue
        if message.role == "user" or not rounds:
            rounds.append([])
        rounds[-1].append(index)
    return rounds


def _make_error(wrong: str, param: str, n_prompt_tokens: int, window: int, reserved: int, advice: str) -> ServiceError:
    return ServiceError(
        400,
        f"{wrong}; found {n_prompt_tokens} tokens in the prompt and {reserved} reserved for the answer, "
        f"{n_prompt_tokens + reserved - window} too many; {advice}.",
        code="context_length_exceeded",
        param=param,
    )
