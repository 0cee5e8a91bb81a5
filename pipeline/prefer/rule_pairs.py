"""Make wrong replies to a turn by code: what the model could say instead of the right reply, each wrong by the turn's own checks.

In: a turn, a random generator. Out: wrong replies with the name of what is wrong. Kinds:

    wrong_argument     the right tool, an argument with a word, a module or a facet less, or of another name in the conversation
    spelled_call       the call written as text instead of made
    spelled_result     an answer made up instead of calling the tool
    wrong_sentence     a quotation of another sentence or passage
    over_abstention    an abstention although a passage answers
    invented_answer    a quotation although no passage answers
    broken_form        an answer without the form that was demanded
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from model.grounding.answers import (
    format_abstention,
    format_quote,
    list_answers,
    list_pieces,
    parse_passages,
    parse_quotes,
)
from model.grounding.matching import split_facet
from model.tokenizer.chat import Message, ToolCall, format_call
from pipeline.prefer.rewards import RewardedTurn, compute_reward

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")


class WrongReply(NamedTuple):
    """A reply that is not right, and why."""

    kind: str
    reply: Message


def list_wrong_replies(turn: RewardedTurn, rng: Random) -> list[WrongReply]:
    """Return one wrong reply of each kind that the turn allows."""
    chosen: dict[str, WrongReply] = {}
    candidates = list(_list_candidates(turn, rng))
    rng.shuffle(candidates)
    for wrong in candidates:
        if wrong.reply != turn.reply and compute_reward(turn, wrong.reply) < 1:
            chosen.setdefault(wrong.kind, wrong)
    return [chosen[kind] for kind in sorted(chosen)]


def _list_candidates(turn: RewardedTurn, rng: Random) -> Iterator[WrongReply]:
    call = turn.reply.call
    if call is not None:
        for argument in list_wrong_arguments(call.argument, turn):
            yield WrongReply("wrong_argument", Message.calling(ToolCall.of(call.name, argument)))
        yield WrongReply("spelled_call", Message.of("assistant", format_call(call)))
        yield WrongReply("spelled_result", Message.of("assistant", _make_up_result(call, rng)))
        return
    if turn.result:
        has_answer = bool(parse_quotes(turn.reply.text))
        for answer in list_answers(turn.asked, turn.result):
            yield WrongReply("wrong_sentence" if has_answer else "invented_answer", Message.of("assistant", answer))
        for passage in parse_passages(turn.result):
            for piece in list_pieces(passage):
                answer = Message.of("assistant", format_quote(turn.asked, piece, passage.title))
                yield WrongReply("wrong_sentence" if has_answer else "invented_answer", answer)
        if has_answer:
            yield WrongReply("over_abstention", Message.of("assistant", format_abstention(turn.asked)))
    yield WrongReply(
        "broken_form", Message.of("assistant", f"Sure, here is the answer: {turn.reply.text}, as you asked.")
    )


def list_wrong_arguments(argument: str, turn: RewardedTurn) -> list[str]:
    """Return arguments like the right one: with a part less, or with another name of the conversation."""
    name, facet = split_facet(argument)
    words, parts = argument.split(), name.split(".")
    wrong = [" ".join(words[:number] + words[number + 1 :]) for number in range(len(words))]
    wrong += [name] if facet else [f"{argument}: parameters"]
    wrong += [".".join(parts[1:]), ".".join(parts[:-1])] if len(parts) > 1 and " " not in name else []
    others = {other for message in turn.prompt for other in _NAME.findall(message.text) if other != name}
    wrong += [f"{other}: {facet}" if facet else other for other in sorted(others)[:4]]
    return [each for each in dict.fromkeys(wrong) if each and each != argument]


def _make_up_result(call: ToolCall, rng: Random) -> str:
    if call.name == "search_docs":
        return format_abstention(call.argument)
    return f"{call.argument} = {rng.randint(2, 99_999)}"
