"""Candidate answers: every one is verbatim, the right one is among them, and code decides what needs no judgment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.grounding.answers import (
    NOTHING_FOUND,
    format_abstention,
    format_quote,
    format_report,
    is_abstention,
    list_answers,
    list_pieces,
    parse_passages,
    parse_quote,
    parse_quotes,
)
from model.tokenizer.chat import ToolCall

SMTP = "[smtplib.SMTP.connect] \"Connect to a host.\" A port may follow. See below. — connect(host='localhost', port=0)"
LMTP = '[smtplib.LMTP.connect] "Connect to the LMTP daemon." — connect(host)'
BOTH = f"{SMTP}\n{LMTP}"
WORDS = st.text("ab c.\n\"[]—:'é", max_size=40)


def test_pieces_of_a_passage_are_its_sentences_and_its_signature() -> None:
    assert list_pieces(parse_passages(SMTP)[0]) == [
        "Connect to a host.",
        "A port may follow.",
        "See below.",
        "connect(host='localhost', port=0)",
    ]


def test_code_and_entries_are_pieces_as_a_whole() -> None:
    code = '[f: examples] ">>> print("a" + "b") ⏎ ab"'
    assert list_pieces(parse_passages(code)[0])[0] == '>>> print("a" + "b") ⏎ ab'
    entries = '[f: parameters] "axis: int. Axis to sum." "out: array. Where to."'
    pieces = list_pieces(parse_passages(entries)[0])
    assert {"axis: int. Axis to sum.", "out: array. Where to."} <= set(pieces)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=3), WORDS)
def test_every_piece_of_any_passage_is_verbatim_and_every_answer_quotes_pieces(
    rows: list[tuple[str, str]], asked: str
) -> None:
    result = "\n".join(f"[{title}] {text}" for title, text in rows)
    passages = parse_passages(result)
    for passage in passages:
        assert all(piece in passage.text for piece in list_pieces(passage))
    pieces = {(each.title, piece) for each in passages for piece in list_pieces(each)}
    if '"' in asked or "\n" in asked:
        return
    for answer in list_answers(asked, result):
        quotes = parse_quotes(answer)
        assert {(quote.title, quote.text) for quote in quotes} <= pieces
        assert len(quotes) + answer.count(format_abstention("")[1:]) == answer.count("\n") + 1


@pytest.mark.parametrize("asked", ["smtplib.LMTP.connect", "LMTP.connect", "lmtp.CONNECT"])
def test_a_passage_about_the_name_rules_out_the_others_and_the_abstention(asked: str) -> None:
    answers = list_answers(asked, BOTH)
    assert {quote.title for answer in answers for quote in parse_quotes(answer)} == {"smtplib.LMTP.connect"}
    assert not any(is_abstention(answer, asked) for answer in answers)


def test_of_an_identifier_that_no_passage_is_about_nothing_is_quoted() -> None:
    assert list_answers("sympy.totally_other", BOTH) == [format_abstention("sympy.totally_other")]
    assert list_answers("x.y", NOTHING_FOUND) == [format_abstention("x.y")]


def test_a_typo_can_be_answered_or_not() -> None:
    answers = list_answers("smtplib.LMTP.conect", LMTP)
    assert format_quote("smtplib.LMTP.conect", "Connect to the LMTP daemon.", "smtplib.LMTP.connect") == answers[0]
    assert format_abstention("smtplib.LMTP.conect") == answers[-1]


def test_a_facet_that_the_passage_may_not_have_leaves_the_abstention() -> None:
    answers = list_answers("LMTP.connect: raises", BOTH)
    assert answers[-1] == format_abstention("LMTP.connect: raises")
    assert format_quote("LMTP.connect: raises", "connect(host)", "smtplib.LMTP.connect") in answers


def test_words_can_quote_two_passages_and_abstain() -> None:
    answers = list_answers("connect host", BOTH)
    pair = [
        format_quote("connect host", text, title)
        for text, title in (
            ("Connect to a host.", "smtplib.SMTP.connect"),
            ("Connect to the LMTP daemon.", "smtplib.LMTP.connect"),
        )
    ]
    assert "\n".join(pair) in answers
    assert answers[-1] == format_abstention("connect host")


def test_a_comparison_has_one_line_for_each_half() -> None:
    answers = list_answers("SMTP.connect; LMTP.connect", BOTH)
    assert all(
        [quote.asked for quote in parse_quotes(answer)] == ["SMTP.connect", "LMTP.connect"] for answer in answers
    )
    assert list_answers("SMTP.connect; x.other_name", BOTH)[0].endswith(format_abstention("x.other_name"))


@given(st.text("ab .:'[]", min_size=1), st.text("ab \".:'[]", min_size=1), st.text("ab.:", min_size=1))
def test_a_quotation_is_parsed_as_it_was_formatted(asked: str, text: str, title: str) -> None:
    if ': "' in f'{asked}: "{text}'.removeprefix(f'{asked}: "') or '" [' in text or asked != asked.strip():
        return
    assert parse_quote(format_quote(asked, text, title)) == (asked, text, title)


def test_tools_are_reported_by_code() -> None:
    assert format_report(ToolCall.of("calculator", "2 + 2"), "4") == "2 + 2 = 4"
    assert format_report(ToolCall.of("calculator", "1 / 0"), "error: division by zero") == (
        "I can't calculate that: division by zero."
    )
    line = "2024-03-01 + 45 days = 2024-04-15 (Monday)"
    assert format_report(ToolCall.of("calculate_date", "2024-03-01 + 45 days"), line) == line
    assert format_report(ToolCall.of("convert_units", "1 x -> y"), "error: x is no unit").startswith("I can't convert")
