"""List what the next reply may be: candidate search arguments and answers, or the sentence that reports a tool's result.

In: the messages of a conversation, the names of the tools, the sections that searches found. Out: `ReplyOptions` for the engine,
or a text that needs no model. The same functions serve a chat and the evaluation of skills, so what is measured is what is served.
Knows neither weights nor a terminal. Time: milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from assistant.conversation.events import Message, ReplyOptions, ToolCall
from model.grounding.answers import (
    OUT_OF_SCOPE,
    Quote,
    format_abstention,
    format_report,
    is_abstention,
    list_answers,
    parse_passages,
    parse_quotes,
)
from model.grounding.arguments import list_arguments
from model.grounding.calculations import list_calculations
from model.grounding.citations import Citable, verify_quote
from model.grounding.constraints import Constraint, are_met, format_answer
from model.grounding.given_texts import read_demands
from model.grounding.matching import is_identifier, split_facet, split_queries
from model.grounding.parts import narrow_answers
from model.grounding.text_tasks import list_text_answers, read_text_task, weigh_text_answers

SEARCH_TOOL = "search_docs"
REPORTED = (
    "calculator",
    "convert_units",
    "calculate_date",
    "count_text",
    "spell_text",
)  # their results are reported by code
# Of abstaining where a search in words has found passages: answers to held-out questions 49.5 → 61.5 % right, to tasks 74 → 77 %.
ABSTENTION_NATS = -2.0
LIMITS = ("n_words", "max_words", "max_sentences")
_VALUE = re.compile(r"^.* (?:=|is a) ", re.DOTALL)
MAX_ASKED = 12  # candidate names for a text that the question brings along


def list_options(
    messages: Sequence[Message],
    tools: Collection[str],
    sections: Mapping[str, Sequence[Citable]] | None = None,
    certain: Sequence[ToolCall] = (),
    answering: Collection[str] = (),
    off_topic: Collection[str] = (),
) -> ReplyOptions:
    """Return the candidates for the reply to a conversation that ends with a question or a tool's result.

    `sections` are those found so far by title; where the cited title is among them, an answer must be verbatim there. `certain` are
    calls one of which the question certainly asks for. The tools that calculate get only numbers and units of the question. Where
    the passages titled `answering` certainly answer, the others are no candidates, and neither is abstaining. Passages titled
    `off_topic` are never quoted.
    """
    last = messages[-1]
    if last.role == "tool":
        asked = _read_search(messages)
        if asked is None:
            return ReplyOptions()
        answers = keep_verified(list_answers(asked, last.text), sections or {})
        answers = [answer for answer in answers if _quotes_only(answer, answering)] or answers
        answers = [answer for answer in answers if all(each.title not in off_topic for each in parse_quotes(answer))]
        answers = narrow_answers(asked, last.text, answers)
        answers = _keep_short(answers, read_demands(_find_question(messages))) or [format_abstention(asked)]
        return ReplyOptions(tuple(answers), _weigh_answers(asked, answers), may_call=False)
    if certain:
        return ReplyOptions(calls=_group_arguments(certain), must_call=True)
    if task := read_text_task(last.text):
        answers = list_text_answers(task)
        return ReplyOptions(tuple(answers), weigh_text_answers(task, answers), may_call=False)
    calls: dict[str, tuple[str, ...]] = {tool: () for tool in tools if tool not in REPORTED}
    if SEARCH_TOOL in calls:
        calls[SEARCH_TOOL] = tuple(list_arguments(messages))
    calls |= _group_arguments([call for call in list_calculations(last.text) if call.name in tools])
    return ReplyOptions(tuple(_list_given_answers(messages)), calls=calls, instead_of_refusal=(OUT_OF_SCOPE,))


def _find_question(messages: Sequence[Message]) -> str:
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def _keep_short(answers: Sequence[str], demands: Sequence[Constraint]) -> list[str]:
    """Return the answers whose quotations are as short as demanded, if there are any; a quotation is changed in no other way."""
    limits = [each for each in demands if each.kind in LIMITS]
    short = [
        each for each in answers if (quotes := parse_quotes(each)) and all(are_met(limits, q.text) for q in quotes)
    ]
    return short if limits and short else list(answers)


def _weigh_answers(asked: str, answers: Sequence[str]) -> tuple[float, ...]:
    """Return the bonuses of answers to a search in words, after which a small model abstains too easily."""
    if any(is_identifier(split_facet(each).name) for each in split_queries(asked)):
        return ()
    return tuple(ABSTENTION_NATS if is_abstention(answer, asked) else 0.0 for answer in answers)


def _quotes_only(answer: str, titles: Collection[str]) -> bool:
    """Return whether an answer quotes passages with these titles and no others."""
    quotes = parse_quotes(answer)
    return bool(quotes) and all(quote.title in titles for quote in quotes)


def _group_arguments(calls: Sequence[ToolCall]) -> dict[str, tuple[str, ...]]:
    """Return the arguments of calls by the name of their tool."""
    names = dict.fromkeys(call.name for call in calls)
    return {name: tuple(call.argument for call in calls if call.name == name) for name in names}


def report_result(messages: Sequence[Message]) -> str | None:
    """Return the sentence that answers with the last tool's result; None if the model has to answer."""
    if len(messages) < 2 or messages[-1].role != "tool" or (call := messages[-2].call) is None:
        return None
    result, is_error = messages[-1].text, messages[-1].text.startswith("error: ")
    if call.name not in REPORTED and not is_error:
        return None
    report = format_report(call, result)
    demands = read_demands(_find_question(messages))
    if is_error or not demands or call.name == "spell_text":  # of which the demand is the argument
        return report
    return format_answer(demands, _list_values(report, demands), (), report)


def _list_values(report: str, demands: Sequence[Constraint]) -> list[str]:
    """Return what a report says: the value after the equals sign; a number without its unit where only the number is wanted."""
    value = _VALUE.sub("", report)
    number, _, unit = value.partition(" ")
    for demand in demands:
        if demand.kind == "value_only" and demand.value == "number":
            return [number]
        if demand.kind == "json" and isinstance(demand.value, tuple) and len(demand.value) == 2 and unit:
            return [number, unit]
    return [value]


def keep_verified(answers: Sequence[str], sections: Mapping[str, Sequence[Citable]]) -> list[str]:
    """Return the answers all of whose quotations are verbatim in the sections of their titles, or of unknown sections."""
    verified: dict[Quote, bool] = {}

    def is_verified(quote: Quote) -> bool:
        key = quote._replace(asked="")
        if key not in verified:
            verified[key] = quote.title not in sections or verify_quote(quote, sections[quote.title]) is not None
        return verified[key]

    return [answer for answer in answers if all(map(is_verified, parse_quotes(answer)))]


def _read_search(messages: Sequence[Message]) -> str | None:
    """Return the argument of the search whose result is the last message."""
    call = messages[-2].call if len(messages) > 1 else None
    if call is None or call.name != SEARCH_TOOL:
        return None
    try:
        return call.argument
    except ValueError:  # a foreign history may have other arguments
        return None


def _list_given_answers(messages: Sequence[Message]) -> list[str]:
    """Return the answers to a question that brings its passages along."""
    text = messages[-1].text
    starts = [line[line.find("[") :] if "] " in line else line for line in text.split("\n")]
    given = "\n".join(line for line in starts if parse_passages(line))
    if not given:
        return []
    question = "\n".join(
        line.partition("[")[0] if parse_passages(start) else line
        for line, start in zip(text.split("\n"), starts, strict=True)
    )
    asked = list_arguments([*messages[:-1], Message.of("user", question)])[:MAX_ASKED]
    return [answer for name in asked for answer in list_answers(name, given)]
