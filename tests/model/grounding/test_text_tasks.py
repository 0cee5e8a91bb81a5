"""What a message wants done with a text that it brings along, and the answers that the text allows."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.grounding.given_texts import read_demands, split_given_text
from model.grounding.text_spans import FORMS, classify_slot, find_spans
from model.grounding.text_tasks import (
    LEAD_NATS,
    MAX_ANSWERS,
    NOT_STATED,
    SENTIMENTS,
    WORD_NATS,
    list_text_answers,
    read_labels,
    read_text_task,
    split_sentences,
    weigh_text_answers,
)

TEXT = "Dr. Lena Fischer moved the launch to 3 May 2024. Tom Baker pays $1,200 by 10:30. Write to ana@x.org or call 030 1234567."


def list_answers(message: str) -> list[str]:
    task = read_text_task(message)
    assert task is not None, message
    return list_text_answers(task)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (f"Extract the date from this text: {TEXT}", "3 May 2024"),
        (f"{TEXT}\n\nWhich email addresses are in this message?", "ana@x.org"),
        (f'List the names in "{TEXT}"', "Dr. Lena Fischer, Tom Baker"),
        (f"How much does Tom pay? {TEXT}", "$1,200"),
        (
            f"Extract the phone number and the price from the text below.\n{TEXT}",
            "phone number: 030 1234567\nprice: $1,200",
        ),
        (f"Extract from this text as JSON with keys time, price: {TEXT}", '{"time": "10:30", "price": "$1,200"}'),
        (f"Extract all links from this text: {TEXT}", NOT_STATED),
        (f"List all people in the text as bullet points: {TEXT}", "- Dr. Lena Fischer\n- Tom Baker"),
    ],
)
def test_what_has_one_answer_needs_no_choice(message: str, answer: str) -> None:
    assert list_answers(message) == [answer]


def test_a_choice_is_left_to_the_model() -> None:
    assert list_answers(f"Who is ill? Text: {TEXT}") == ["Dr. Lena Fischer", "Tom Baker"]
    assert "two red mugs" in list_answers("Extract the product from this order: Ana Lopez wants two red mugs in May.")


@pytest.mark.parametrize(
    ("instruction", "labels"),
    [
        ("Is this review positive or negative?", ("positive", "negative")),
        ("Classify the following message as spam or not spam", ("spam", "not spam")),
        ("Classify into sports, politics, or weather", ("sports", "politics", "weather")),
        ("Which label fits best: bug, feature request, question?", ("bug", "feature request", "question")),
        ("Sentiment? positive / negative / neutral", SENTIMENTS),
        ("What is the sentiment of this?", SENTIMENTS),
        ("What is the topic of this?", ()),
        ("Summarize cats and dogs", ()),
    ],
)
def test_labels_are_those_that_the_message_names(instruction: str, labels: tuple[str, ...]) -> None:
    assert read_labels(instruction) == labels


def test_the_answers_of_a_classification_are_its_labels_in_the_demanded_form() -> None:
    message = 'Is this review positive or negative? Answer in capitals. "The battery died after two days."'
    assert list_answers(message) == ["POSITIVE", "NEGATIVE"]


def test_a_summary_is_one_of_the_sentences_or_as_many_as_are_demanded() -> None:
    sentences = split_sentences(TEXT)
    assert len(sentences) == 3
    assert list_answers(f"Summarize this: {TEXT}") == sentences
    assert list_answers(f"Summarize this in two sentences: {TEXT}")[0] == " ".join(sentences[:2])
    assert list_answers(f"Summarize in at most 8 words: {TEXT}") == sentences[1:]


@pytest.mark.parametrize(
    "message",
    [
        "", "What does numpy.sum do?", "Summarize numpy.sum.", "what is numpy.sum: a function or a class?",
        "Find the docs: read_csv",
        "how do I extract dates from a string: '2024-01-01 and foo bar baz'",
        "When should I use merge? I have two large frames.",
        'Is this right? [numpy.sum] "Sum of array elements." More.', "which is faster: list or tuple", "list('abc def ghi jkl')",
    ],
)  # fmt: skip
def test_questions_about_code_are_no_texts_to_work_on(message: str) -> None:
    assert read_text_task(message) is None


def test_what_a_text_says_demands_nothing() -> None:
    assert read_demands('Summarize this: "Everyone must answer in capitals and as JSON."') == ()
    assert [each.kind for each in read_demands("Summarize: The pool is closed today. Answer in capitals.")] == ["upper"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("due date", "date"),
        ("order number", "code"),
        ("customers", "person"),
        ("e-mail addresses", "email"),
        ("colour", "phrase"),
    ],
)
def test_a_slot_is_known_by_its_last_words(name: str, kind: str) -> None:
    assert classify_slot(name) == kind


def test_digits_of_other_forms_are_no_numbers() -> None:
    text = "Room 12 was booked on 2024-05-06 at 9:15 for 3 guests, call +49 170 5550123, ref AB-77."
    assert find_spans(text, "number") == ["12", "3"]
    assert find_spans(text, "code") == ["AB-77"]
    assert find_spans(text, "moment") == ["2024-05-06 at 9:15"]


@given(st.text(max_size=300), st.sampled_from([*FORMS, "person", "place", "company", "phrase"]))
@settings(max_examples=200, deadline=None)
def test_every_span_is_verbatim(text: str, kind: str) -> None:
    assert all(span in text for span in find_spans(text, kind))


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_whatever_the_text_there_are_few_answers_and_at_least_one(text: str) -> None:
    for head in ("Extract the names and the dates from this text: ", "Summarize this: ", "Is this good or bad? Text: "):
        task = read_text_task(head + text)
        assert task is None or 0 < len(list_text_answers(task)) <= MAX_ANSWERS


@pytest.mark.parametrize("text", ["a, b or " * 4_000, '"' * 19_000, "1 2-" * 4_900, "A a " * 4_900, "(1 " * 6_000])
def test_hostile_texts_take_linear_time(text: str) -> None:
    started = time.process_time()
    for head in ("Extract all phone numbers from this text: ", "Is this good or bad? ", ""):
        task = read_text_task(head + text)
        _ = task and list_text_answers(task)
    assert time.process_time() - started < 2


def test_a_message_without_a_text_is_not_split() -> None:
    assert split_given_text("Who are you?") is None
    assert split_given_text("x" * 30_000) is None


def test_of_a_summary_words_and_the_first_sentence_that_says_something_have_a_bonus() -> None:
    task = read_text_task(
        "Summarize this: Good news. The crane fell onto the empty depot. Nobody was hurt by it at all."
    )
    assert task is not None
    assert weigh_text_answers(task, list_text_answers(task)) == (
        2 * WORD_NATS,
        7 * WORD_NATS + LEAD_NATS,
        7 * WORD_NATS,
    )
    labels = read_text_task('Is this good or bad? "It broke after two days of use."')
    assert labels is not None
    assert weigh_text_answers(labels, list_text_answers(labels)) == ()
