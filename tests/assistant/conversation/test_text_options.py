"""What a reply may be where the message demands a form, or brings a text along."""

from __future__ import annotations

import pytest

from assistant.conversation.events import ReplyOptions
from assistant.conversation.options import list_options, report_result
from assistant.tools.toolbox import TOOLS
from model.grounding.answers import format_abstention, format_quote
from model.grounding.certain import LookedUp, list_certain_calls
from model.tokenizer.chat import Message, ToolCall

PASSAGES = '[numpy.sum] "Sum of array elements over a given axis or over all of them." Short one. — numpy.sum(a)'


def report(question: str) -> str | None:
    """Return the report on the call that a question certainly asks for."""
    messages = [Message.of("user", question)]
    call = list_certain_calls(messages, lambda _: LookedUp())[0]
    return report_result([*messages, Message.calling(call), Message.result(TOOLS[call.name](call.argument))])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 12 * 7?", "12 * 7 = 84"),
        ("What is 12 * 7? Just the number.", "84"),
        ("What weekday was 2024-03-01? Answer in one word.", "Friday"),
        ("Convert 2 km to m. Only the number.", "2000"),
        ("Convert 2 km to m. Reply as JSON with keys value and unit.", '{"value": "2000", "unit": "m"}'),
        ("How many r's are in strawberry? Only the answer.", "3"),
        ("Write hello in capitals.", "HELLO"),
        ("What is 1 / 0? Just the number.", "I can't calculate that: division by zero."),
    ],
)
def test_a_result_takes_the_demanded_form(question: str, answer: str) -> None:
    assert report(question) == answer


def test_what_a_given_text_allows_is_all_that_can_be_answered() -> None:
    question = 'Is this review positive or negative? "numpy.sum is 3 + 4 times better than I thought."'
    messages = [Message.of("user", question)]
    assert list_certain_calls(messages, lambda _: LookedUp("exact", "numpy.sum")) == []
    assert list_options(messages, [*TOOLS, "search_docs"]) == ReplyOptions(("positive", "negative"), may_call=False)


@pytest.mark.parametrize(("demand", "n"), [("", 4), (" Use at most 5 words.", 2), (" Use at most 1 word.", 4)])
def test_of_quotations_the_short_ones_are_kept_if_there_are_any(demand: str, n: int) -> None:
    call = ToolCall.of("search_docs", "add up")
    messages = [Message.of("user", f"How do I add up?{demand}"), Message.calling(call), Message.result(PASSAGES)]
    answers = list_options(messages, ["search_docs"]).answers
    assert len(answers) == n
    assert format_quote("add up", "Short one.", "numpy.sum") in answers
    assert (format_abstention("add up") in answers) == (n > 2)
