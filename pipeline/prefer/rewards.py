"""Turns of conversations with a known right reply, and the reward of any other reply: checked by code, never by a model.

In: conversations as `conversations` writes them. Out: the replies of the last question's round as turns. The reward of a reply is
the mean over the turn's checks, all of which the turn's own reply passes: of a call, the right tool and the exact argument; of a
text, the scorers of the skills that it counts for (pipeline/skills: an exact quotation with its source, an abstention, the result
of a calculation), else the text itself, and each demand on its form that the question makes (model/grounding/constraints.py). So a
call with the right tool and a wrong argument has one half.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from model.grounding.answers import parse_quotes
from model.grounding.constraints import Constraint, is_met, read_constraints
from model.tokenizer.chat import Message, call_to_json, messages_from_json
from pipeline.skills import SKILLS
from pipeline.skills.skill import Item, Skill, has_expected_call
from pipeline.skills.tool_choice import TOOL_CHOICE

Check = Callable[[Message], bool]
EMPTY = Message.of("assistant", "")  # what this reply passes is no check of a text


class RewardedTurn(NamedTuple):
    """A prompt, the reply that training has for it, and what a right reply passes."""

    id: str
    kind: str
    prompt: Sequence[Message]
    reply: Message
    checks: tuple[Check, ...]

    @property
    def asked(self) -> str:
        """The argument of the last call in the prompt; empty if there is none."""
        calls = [message.call for message in self.prompt if message.call is not None]
        return calls[-1].argument if calls else ""

    @property
    def result(self) -> str:
        """The result of the tool that was just called; empty if none was."""
        return self.prompt[-1].text if self.prompt[-1].role == "tool" else ""


def list_turns(rows: Iterable[Mapping[str, str]], kinds: Collection[str] = ()) -> list[RewardedTurn]:
    """Return the assistant's replies after the last question of each conversation of these kinds; no kinds: of all."""
    turns: list[RewardedTurn] = []
    for row in rows:
        if kinds and row["kind"] not in kinds:
            continue
        messages = messages_from_json(json.loads(row["messages"]))
        asked_at = max((number for number, message in enumerate(messages) if message.role == "user"), default=-1)
        replies = [n for n, message in enumerate(messages) if message.role == "assistant" and n > asked_at >= 0]
        turns += [make_turn(f"{row['id']}/{n}", row["kind"], messages[:n], messages[n]) for n in replies]
    return turns


def make_turn(turn_id: str, kind: str, prompt: Sequence[Message], reply: Message) -> RewardedTurn:
    """Return a turn with the checks that its own reply passes."""
    turn = RewardedTurn(turn_id, kind, prompt, reply, ())
    item = Item(turn_id, kind, prompt, describe_reply(turn))
    tool = [make_check(TOOL_CHOICE, item)] if TOOL_CHOICE.applies(item) else []
    if reply.call is not None:
        return turn._replace(checks=(*tool, lambda other: has_expected_call(item, other)))
    checks = [make_check(skill, item) for skill in SKILLS if skill.applies(item)]
    checks = [check for check in checks if check(reply) and not check(EMPTY)]
    question = next((message.text for message in reversed(prompt) if message.role == "user"), "")
    forms = [
        _make_form_check(constraint) for constraint in read_constraints(question) if is_met(constraint, reply.text)
    ]
    return turn._replace(checks=(*tool, *(checks or [_make_text_check(reply)]), *forms))


def describe_reply(turn: RewardedTurn) -> dict[str, Any]:
    """Return what the scorers of the skills expect, as far as the reply itself says it."""
    if turn.reply.call is not None:
        return {"call": call_to_json(turn.reply.call)}
    quotes = parse_quotes(turn.reply.text)
    expected: dict[str, Any] = {
        "answer": turn.reply.text.strip(),
        "symbol": turn.asked,
        "sources": [each.title for each in quotes],
    }
    return expected | ({"quote": quotes[0].text, "source": quotes[0].title} if quotes else {})


def make_check(skill: Skill, item: Item) -> Check:
    """Return whether a reply is right for a skill; never, where the skill's scorer needs to know more than the reply says."""

    def check(reply: Message) -> bool:
        try:
            return skill.is_right(item, reply)
        except KeyError:
            return False

    return check


def _make_text_check(right: Message) -> Check:
    return lambda reply: reply.call is None and reply.text.strip() == right.text.strip()


def _make_form_check(constraint: Constraint) -> Check:
    return lambda reply: reply.call is None and is_met(constraint, reply.text)


def compute_reward(turn: RewardedTurn, reply: Message) -> float:
    """Return the fraction of the turn's checks that a reply passes."""
    return sum(check(reply) for check in turn.checks) / len(turn.checks)
