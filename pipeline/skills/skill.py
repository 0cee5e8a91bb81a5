"""The parts of a skill: how its examples are made, which held-out items it scores, and its title and tolerance.

One file of this folder defines one skill, or several that share their examples; `SKILLS` in __init__.py lists them all.
The stage conversations makes the examples, evaluate scores the items, the report shows the titles, the gate of the
registry applies the tolerances. A file may only use pure functions: no files, no settings, no logging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from model.tokenizer.chat import Message, ToolCall, call_from_json
from pipeline.skills.neighbors import NameIndex, Subject

NEW_WORDING_FRAC = 0.25  # of the held-out items: asked in wordings that training has never seen


class Example(NamedTuple):
    """One conversation. `messages` end with the assistant's answer; `expected` is what a scorer compares a reply with. Makers leave
    out where it is from (`source`, `locator`) and the licenses of what it quotes: the stage conversations knows them."""

    kind: str
    messages: list[Message]
    expected: dict[str, Any]
    source: str = ""
    locator: str = ""
    licenses: tuple[str, ...] = ()


class Item(NamedTuple):
    """A held-out conversation. `prompt` ends where the assistant has to reply: after a message of the user or of a tool."""

    id: str
    kind: str
    prompt: Sequence[Message]
    expected: Mapping[str, Any]

    @property
    def is_first_turn(self) -> bool:
        """Whether the last message is the user's, so that a tool may be called now."""
        return self.prompt[-1].role == "user"

    @property
    def expected_call(self) -> ToolCall | None:
        """The right tool call; None if the right reply calls no tool."""
        call = self.expected.get("call")
        return None if call is None else call_from_json(call)


class WrittenQuestion(NamedTuple):
    """A question written by hand, and the titles that answer it."""

    question: str
    titles: tuple[str, ...]


Search = Callable[[str, str], str]  # (argument, question) → what search_docs returns


class Material(NamedTuple):
    """What examples are made from: `symbols` and the titles of `texts` are asked about, `search` returns what the assistant's
    search does, without held-out documents while training examples are made. `shown` has the names that may be mentioned; a name
    that `known` does not have does not exist."""

    symbols: Sequence[Subject]
    texts: Sequence[str]
    questions: Sequence[WrittenQuestion]
    search: Search
    shown: NameIndex
    known: NameIndex
    is_heldout: bool = False

    @property
    def new_wording_frac(self) -> float:
        """The fraction of questions in wordings reserved for evaluation."""
        return NEW_WORDING_FRAC if self.is_heldout else 0.0


@dataclass(frozen=True)
class Maker:
    """Makes examples by program.

    `name` is unique and seeds the random generator, so that more examples of one maker leave those of the others
    unchanged. Training examples: `conversations.n_<kind>` of params.yaml, split evenly over the makers of a kind; where
    there is no such setting, `n_examples`. `hold_out` turns examples into held-out conversations, whose last message is the
    reply to score.
    """

    name: str
    kind: str
    make_examples: Callable[[int, Material, Random], list[Example]]
    hold_out: Callable[[list[Example]], list[Example]] = list
    n_examples: int | None = None


@dataclass(frozen=True)
class Skill:
    """One metric of the assistant: the fraction of held-out items with the right reply.

    An item may count for several skills or for none. `max_drop` is the default tolerance of the gate: how much of the
    champion's fraction a candidate may lose, about two standard errors of the difference, so that chance on few items
    decides nothing; `registry.max_skill_drop` overrides it. `seed_kinds` are kinds of conversations that are written by
    hand (data/seed/chat) for this skill.
    """

    name: str
    title: str
    meaning: str
    max_drop: float
    applies: Callable[[Item], bool]
    is_right: Callable[[Item, Message], bool]
    makers: tuple[Maker, ...] = ()
    seed_kinds: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """The name of its metric; `<metric>_se` is the standard error, `n_heldout_<name>` the number of items."""
        return f"{self.name}_frac"


def has_expected_call(item: Item, reply: Message) -> bool:
    """Return whether the reply is the expected tool call: the same tool, the same argument to the character."""
    return reply.call == item.expected_call


def cut_before_result(examples: Sequence[Example]) -> list[Example]:
    """Return the examples up to the tool call, which is the reply to score."""
    return [example._replace(messages=example.messages[:2]) for example in examples]
