"""Dates agree with the calendar of the standard library; months end by one rule; any text gives one line."""

from __future__ import annotations

import calendar
import time
from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assistant.tools.dates import calculate_date

DATES = st.dates(date(1, 1, 1), date(9999, 12, 31))


@given(DATES, st.integers(-4_000_000, 4_000_000), st.sampled_from(["day", "week"]))
def test_days_and_weeks_are_those_of_the_calendar(day: date, amount: int, unit: str) -> None:
    expression = f"{day} {'-' if amount < 0 else '+'} {abs(amount)} {unit}s"
    try:
        expected = day + timedelta(**{f"{unit}s": amount})
        assert calculate_date(expression) == f"{expression} = {expected} ({expected:%A})"
    except OverflowError:
        assert calculate_date(expression) == "error: the result is outside the years 1 to 9999"


@given(DATES, DATES)
def test_a_difference_added_again_gives_the_date(first: date, second: date) -> None:
    answer = calculate_date(f"{first} - {second}")
    n_days = int(answer.split(" = ")[1].split()[0])
    assert second + timedelta(days=n_days) == first


@given(DATES, st.integers(-200, 200))
def test_months_keep_the_day_or_take_the_last_one(day: date, months: int) -> None:
    answer = calculate_date(f"{day} {'-' if months < 0 else '+'} {abs(months)} months")
    assume(not answer.startswith("error: "))
    result = date.fromisoformat(answer.split(" = ")[1].split()[0])
    assert (result.year * 12 + result.month) - (day.year * 12 + day.month) == months
    assert result.day == day.day or (result.day < day.day and (result + timedelta(days=1)).day == 1)


@given(DATES)
def test_spellings_of_one_date_agree(day: date) -> None:
    months = [*calendar.month_name][1:]
    name = months[day.month - 1]
    year = f"{day.year:04d}"
    spellings = (
        f"{year}/{day.month}/{day.day}",
        f"{day.day}.{day.month}.{year}",
        f"{day.day} {name} {year}",
        f"{name} {day.day}, {year}",
        f"{day.day:02d} {name[:3].lower()} {year}",
    )
    for text in spellings:
        assert calculate_date(f"weekday {text}") == f"{text} is a {day:%A}"


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("2024-03-01 + 45 days", "2024-03-01 + 45 days = 2024-04-15 (Monday)"),
        ("2024-03-01 - 2023-12-25", "2024-03-01 - 2023-12-25 = 67 days"),
        ("2025-06-16 - 6 December 2018", "2025-06-16 - 6 December 2018 = 2384 days"),
        ("2025-06-16 - 31 March 2025", "2025-06-16 - 31 March 2025 = 77 days"),
        ("2025-06-16 - May 23, 2025", "2025-06-16 - May 23, 2025 = 24 days"),
        ("2025-06-16 - 3 months", "2025-06-16 - 3 months = 2025-03-16 (Sunday)"),
        ("weekday 2024-03-01", "2024-03-01 is a Friday"),
        ("2024-01-31 + 1 month", "2024-01-31 + 1 month = 2024-02-29 (Thursday)"),
        ("2024-02-29 + 1 year", "2024-02-29 + 1 year = 2025-02-28 (Friday)"),
        ("2024-01-31 + 1 month + 1 month", "2024-01-31 + 1 month + 1 month = 2024-03-29 (Friday)"),
        ("March 1st, 2024 - 1 day", "March 1st, 2024 - 1 day = 2024-02-29 (Thursday)"),
        ("12/25/2024", "12/25/2024 = 2024-12-25 (Wednesday)"),
        ("2023-02-29", "error: there is no date 2023-02-29"),
        ("03/04/2024 + 1 day", "error: 03/04/2024 can be read in two ways; write it as in 2024-03-01"),
        ("9999-12-31 + 1 day", "error: the result is outside the years 1 to 9999"),
    ],
)
def test_examples(expression: str, answer: str) -> None:
    assert calculate_date(expression) == answer


def test_today_is_today() -> None:
    answers = {f"today = {date.today()}" for _ in range(2)}  # midnight may pass
    assert calculate_date("today").split(" (")[0] in answers | {f"today = {date.today()}"}


@given(st.text() | st.text("0123456789-+/. adehkmnorstuwy", max_size=60))
def test_any_text_gives_one_line_quickly(text: str) -> None:
    started_at = time.perf_counter()
    answer = calculate_date(text)
    assert time.perf_counter() - started_at < 0.5
    assert len(answer) < 300
    assert "\n" not in answer


@pytest.mark.parametrize("text", ["", "-", "weekday", "2024-03-01 + " * 10_000, "2024-03-01 + 9999999 days", "+1 day"])
def test_anything_else_is_an_error(text: str) -> None:
    assert calculate_date(text).startswith("error: ")
