"""Judge the assistant's replies to turns typed by hand: what each turn expects, and whether a reply meets it.

In: data/seed/evaluation/<kind>.jsonl, one conversation per line, {"id", "half": "seen" | "unseen", "turns": [turn, …]} where a
turn has the user's text and what a person would accept:

    answer     kinds of reply, any of: cites, value, abstains, out_of_scope, refuses, asks_back, talks
    titles     groups of titles: one of each group has to be cited (a title's facets count as the title)
    says       texts that the reply must contain; says_any: one of them; never: none, outside quotations and the search's argument
    number     the value that a calculation, conversion, date or count must give, within the relative `tolerance`
    has_form   whether the reply must have the form that the text demands (model/grounding/constraints.py)

Upper and lower case are the same. The unseen half is for measuring only: whoever improves the assistant looks at the seen one.

Out: a verdict per turn. Covers: what can be checked without judgment; a citation counts as invented if the quoted text is neither
in a passage of this conversation nor in what the user wrote. Does not cover: whether a quotation is the best one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from model.grounding.answers import OUT_OF_SCOPE, Quote, is_abstention, parse_passages, parse_quotes
from model.grounding.constraints import are_met
from model.grounding.given_texts import read_demands
from pipeline.frame.errors import UserError
from pipeline.frame.settings import ParamsSection, check_section
from pipeline.skills.refusal import is_refusal
from pipeline.storage.lines import read_json_list

Half = Literal["seen", "unseen"]
ReplyKind = Literal["cites", "value", "abstains", "out_of_scope", "refuses", "asks_back", "talks"]
KINDS = (
    "wordings",
    "arguments",
    "typos",
    "multi_turn",
    "comparison",
    "how_to",
    "code",
    "units",
    "dates",
    "calculation",
    "small_talk",
    "other_languages",
    "injection",
    "extraction",
    "classification",
    "summary",
    "spelling",
    "constraints",
)
CALCULATING = frozenset({"calculator", "convert_units", "calculate_date", "count_text", "spell_text"})
TOLERANCE = 1e-6
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_SCOPE = OUT_OF_SCOPE.partition(";")[0]
_FACET = re.compile(r": .*", re.DOTALL)

Text = Annotated[str, Field(min_length=1)]
Titles = Annotated[list[Text], Field(min_length=1)]


class Expectation(ParamsSection):
    """One turn: what the user types, and what a reply to it must be."""

    user: Text
    answer: Annotated[list[ReplyKind], Field(min_length=1)]
    titles: list[Titles] = Field(default_factory=list[Titles])
    says: list[Text] = Field(default_factory=list[Text])
    says_any: list[Text] = Field(default_factory=list[Text])
    never: list[Text] = Field(default_factory=list[Text])
    number: float | None = None
    tolerance: Annotated[float, Field(gt=0)] = TOLERANCE
    has_form: bool = False

    @model_validator(mode="after")
    def _check(self) -> Expectation:
        if self.titles and self.answer != ["cites"]:
            raise ValueError("titles need the answer cites alone")
        if self.number is not None and self.answer != ["value"]:
            raise ValueError("a number needs the answer value alone")
        if self.has_form and not read_demands(self.user):
            raise ValueError("has_form needs a text that demands a form")
        return self


class TypedConversation(ParamsSection):
    """The turns of one conversation. `half` decides whether it may be looked at while the assistant is improved."""

    id: Text
    half: Half
    turns: Annotated[list[Expectation], Field(min_length=1, max_length=5)]


@dataclass(frozen=True)
class Reply:
    """What the assistant did in one turn: its text, the names of the tools it called, and their results."""

    text: str
    tools: Sequence[str] = ()
    results: Sequence[str] = ()


@dataclass(frozen=True)
class TurnVerdict:
    """`problem` is empty if the reply is acceptable. `is_wrong_value`: a value was given, and it is not the right one."""

    problem: str
    n_citations: int = 0
    n_invented: int = 0
    is_wrong_value: bool = False

    @property
    def is_acceptable(self) -> bool:
        return not self.problem


def read_conversations(folder: Path) -> dict[str, list[TypedConversation]]:
    """Return the conversations by kind. Raises `UserError` that names the file, the line and the field."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", "nothing of that name", "name the folder data/seed/evaluation")
    conversations: dict[str, list[TypedConversation]] = {}
    ids: dict[str, str] = {}
    for kind in KINDS:
        path = folder / f"{kind}.jsonl"
        if not path.exists():
            continue
        conversations[kind] = []
        for number, row in read_json_list(path):
            conversation = check_section(TypedConversation, row, f"{path}:{number}")
            if conversation.id in ids:
                raise UserError(
                    f"{path}:{number}: id", f"{conversation.id!r}, as in {ids[conversation.id]}", "give another one"
                )
            ids[conversation.id] = f"{path}:{number}"
            conversations[kind].append(conversation)
    if not any(conversations.values()):
        raise UserError(f"{folder}: no conversations", f"none of {', '.join(KINDS)}.jsonl", "name another folder")
    return conversations


def describe_reply(reply: Reply) -> set[str]:
    """Return the kinds of a reply. One that calculates, quotes, refuses or abstains is nothing else; others may ask and talk."""
    text = reply.text
    if parse_quotes(text):
        return {"cites"}
    if is_refusal(text):
        return {"refuses"}
    if _SCOPE in text:
        return {"out_of_scope"}
    if is_abstention(text, ""):
        return {"abstains"}
    if CALCULATING & set(reply.tools):
        return {"value"}
    return ({"talks"} if text.strip() else set()) | ({"asks_back"} if "?" in text else set())


def judge_reply(expected: Expectation, reply: Reply, sources: Sequence[str]) -> TurnVerdict:
    """Return the verdict on one reply. `sources`: the results of all searches so far, and the user's texts."""
    quotes = parse_quotes(reply.text)
    n_invented = sum(not is_in_sources(quote, sources) for quote in quotes)
    problem = _find_problem(expected, reply, quotes)
    is_value = bool(CALCULATING & set(reply.tools)) and not reply.text.startswith("I can't")
    is_wrong = is_value and expected.answer == ["value"] and bool(problem)
    return TurnVerdict(problem or ("invents a citation" if n_invented else ""), len(quotes), n_invented, is_wrong)


def _find_problem(expected: Expectation, reply: Reply, quotes: Sequence[Quote]) -> str:
    kinds = describe_reply(reply)
    cited = {_FACET.sub("", quote.title).removeprefix("builtins.") for quote in quotes}
    text = reply.text.lower()
    own_words = remove_quotations(reply.text).lower()
    if found := [part for part in expected.never if part.lower() in own_words]:
        return f"says {found[0]!r}"
    if not kinds & set(expected.answer):
        return f"{' or '.join(expected.answer)} expected, it {' and '.join(sorted(kinds)) or 'says nothing'}"
    if missing := [group for group in expected.titles if not cited & set(group)]:
        return f"cites {', '.join(sorted(cited))}; expected {missing[0][0]}"
    if missing := [part for part in expected.says if part.lower() not in text]:
        return f"does not say {missing[0]!r}"
    if expected.says_any and not any(part.lower() in text for part in expected.says_any):
        return f"says none of {', '.join(expected.says_any)}"
    if expected.number is not None and not _has_number(reply.text, expected.number, expected.tolerance):
        return f"does not give {expected.number:g}"
    if expected.has_form and not are_met(read_demands(expected.user), reply.text):
        return "does not have the demanded form"
    return ""


def remove_quotations(text: str) -> str:
    """Return an answer without what it quotes and without the search's argument, which is the user's own text."""
    lines: list[str] = []
    for line in text.split("\n"):
        if parse_quotes(line):
            continue
        asked, mark, rest = line.partition(": the documentation")
        lines.append(rest if mark else asked)
    return "\n".join(lines)


def _has_number(text: str, number: float, tolerance: float) -> bool:
    result = text.rpartition("=")[2]
    return any(math.isclose(float(each), number, rel_tol=tolerance, abs_tol=1e-9) for each in _NUMBER.findall(result))


def is_in_sources(quote: Quote, sources: Iterable[str]) -> bool:
    """Return whether a text has a passage of the cited title that contains the quoted text, white space aside."""
    quoted = " ".join(quote.text.split())
    for source in sources:
        for line in source.split("\n"):
            passages = parse_passages(line[line.find("[") :]) if "[" in line else []
            if any(passage.title == quote.title and quoted in " ".join(passage.text.split()) for passage in passages):
                return True
    return False


def list_titles(conversations: Mapping[str, Iterable[TypedConversation]]) -> set[str]:
    """Return all titles that a turn accepts."""
    turns = [turn for group in conversations.values() for conversation in group for turn in conversation.turns]
    return {title for turn in turns for group in turn.titles for title in group}
