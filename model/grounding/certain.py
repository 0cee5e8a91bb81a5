"""List the calls one of which a message certainly asks for, so that no model has to decide whether to call a tool.

In: the messages of a conversation, and a function that says how the index knows a name. Out: candidate calls of one tool; none
where judgment is needed. Certain are

    a name that the documentation has: as typed, by an alias, in other case, inherited, misspelled below a known module
    a calculation that is the whole message, apart from words such as `what is` and `please`
    an amount with a unit and the unit to convert it to, in a short message
    two dates, a date and a number of days, or a date and a word for its weekday, in a short message

Of a name, which candidate is meant remains the model's choice: a parameter, an example, a comparison. Of the others the likeliest one
is taken, because it is right more often than the choice of a small model. Needs the standard library only. Time: O(characters), and one search per name.

Does not cover: questions in words, follow-ups, small talk. Those are what the model is trained for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from model.grounding.answers import parse_passages
from model.grounding.arguments import find_names, list_arguments, read_question
from model.grounding.calculations import split_expression
from model.grounding.matching import split_facet, split_queries
from model.grounding.measures import (
    is_conversion,
    is_date_question,
    list_conversions,
    list_date_expressions,
    remove_dates,
)
from model.tokenizer.chat import Message, ToolCall

HowNamed = Callable[[str], str]  # name → how the index knows it (model.retrieval.naming.names); "" if it does not

MAX_WORDS = 25  # of a message with units or dates: a longer one is a story
DOTTED_WAYS = frozenset({"exact", "alias", "case", "tail", "inherited", "package", "typo"})
PLAIN_WAYS = frozenset({"exact", "alias"})  # of a name without a dot
_LEAD_INS = frozenset(
    re.findall(
        r"\S+",
        "a about again and answer anyway are as calc calculate can compute could count do does equal equals "
        "evaluate exactly find for from get give gives hello help hey hi how i is it it's itself just kindly know "
        "let's lets mal maybe me mean much need now of ok okay or out please pls plz quick quickly result show so "
        "solve sum tell than thanks that the then this to today total uh um value want was well what what's whats "
        "which with work would you your aus berechne bitte combien cuanto cuánto es fa fait font ist macht quanto "
        "rechne son viel wie ça",
    )
)
_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def list_certain_calls(messages: Sequence[Message], how_named: HowNamed) -> list[ToolCall]:
    """Return calls one of which is certainly meant by the last message, likely ones first; none if that takes judgment."""
    question = read_question(messages)
    if any(parse_passages(line[line.find("[") :]) for line in question.split("\n") if "[" in line):
        return []  # it brings passages along
    if names := [name for name in find_names(question) if _is_known(name, how_named(name))]:
        arguments = [each for each in list_arguments(messages) if _mentions(each, names)]
        return [ToolCall.of("search_docs", argument) for argument in arguments]
    is_short = len(question.split()) <= MAX_WORDS
    if is_short and is_date_question(question):
        return [ToolCall.of("calculate_date", each) for each in list_date_expressions(question)[:1]]
    if is_short and is_conversion(question):
        return [ToolCall.of("convert_units", each) for each in list_conversions(question)[:1]]
    expression = find_certain_expression(question)
    return [ToolCall.of("calculator", expression)] if expression else []


def find_certain_expression(question: str) -> str:
    """Return the expression that a message is, apart from words such as `what is`; empty if it is more than that."""
    expression, rest = split_expression(remove_dates(question))
    words = {word.lower().replace("’", "'") for word in _LETTERS.findall(rest)}
    return expression if words <= _LEAD_INS and not re.search(r"\d", rest) else ""


def _is_known(name: str, how: str) -> bool:
    return how in (DOTTED_WAYS if "." in name.strip(".") else PLAIN_WAYS)


def _mentions(argument: str, names: Sequence[str]) -> bool:
    """Return whether every query of an argument is about one of the names, typed in whatever form."""
    heads = [split_facet(query).name for query in split_queries(argument)]
    return bool(heads) and all(head in names for head in heads)
