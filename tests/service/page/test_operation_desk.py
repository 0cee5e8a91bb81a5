"""The operator's view: its numbers are those of the journal, of this tenant and this window."""

from __future__ import annotations

import json
import random
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from service.database.database import Database
from service.feedback.feedback_store import Feedback
from service.journal.journal_tables import JOURNAL
from service.page.answer_detail import read_detail
from service.page.operation_desk import AnswerRow, find_percentile, make_operation_desk, read_answers
from service.service_error import ServiceError

END = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
BLOCKED = json.dumps(
    [{"action": "block", "rules": ["content.weapons"], "reason": "too high", "scores": {}, "policy": "p"}]
)


def make_row(number: int, minutes: float, **changes: Any) -> AnswerRow:
    row = AnswerRow(
        f"req_{number}", END - timedelta(minutes=minutes), "ada", "minigpt", "7", "stop", "", "", 0.5, 0.1, 10
    )
    return row._replace(**changes)


def get_tiles(rows: list[AnswerRow], window: str = "hour") -> dict[str, str]:
    return dict(make_operation_desk(rows, [], window, END, "7")["tiles"])


def store_rows(database: Database, rows: list[AnswerRow], tenant: str) -> None:
    texts = {column.name: "" for column in JOURNAL.columns} | {"tenant": tenant, "n_prompt_tokens": 3}
    messages = {"messages": '[{"role":"user","text":"hunter2"}]', "answer": "hunter2"}
    with database.connect() as connection:
        connection.execute(insert(JOURNAL), [texts | messages | row._asdict() for row in rows])


def test_tiles_and_charts_count_what_the_rows_have() -> None:
    rng = random.Random(7)
    rows = [
        make_row(
            number,
            rng.uniform(0, 60),
            seconds=rng.lognormvariate(0, 1),
            error="engine_failed" if rng.random() < 0.1 else "",
            reason=rng.choice(["stop", "stop", "length", "content_filter", "cancelled"]),
        )
        for number in range(500)
    ]
    desk, tiles = make_operation_desk(rows, [], "hour", END, "7"), get_tiles(rows)
    traffic, times = desk["charts"]
    n_errors = sum(row.is_error for row in rows)
    assert tiles["answers"] == "500"
    assert tiles["errors"] == f"{n_errors / 5:.1f} %"
    assert tiles["refused by policy"] == f"{sum(row.reason == 'content_filter' for row in rows) / 5:.1f} %"
    assert [sum(series["values"]) for series in traffic["series"]] == [500, n_errors]
    assert [len(series["values"]) for series in (*traffic["series"], *times["series"])] == [60] * 4
    assert traffic["top"] == max(traffic["series"][0]["values"])
    assert traffic["from"] == (END - timedelta(hours=1)).isoformat()
    answered = [row.seconds for row in rows if not row.is_error]
    assert tiles["median time"] == (
        f"{statistics.median_low(answered):.1f} s"
        if statistics.median_low(answered) >= 1
        else f"{statistics.median_low(answered) * 1000:.0f} ms"
    )


@pytest.mark.parametrize("n", [1, 2, 19, 20, 21, 100])
@pytest.mark.parametrize("percent", [50, 95, 100])
def test_a_percentile_is_the_smallest_value_that_covers_its_share(n: int, percent: int) -> None:
    values = random.Random(n).sample(range(1000), n)
    found = find_percentile([float(value) for value in values], percent)
    assert found is not None
    covered = [value for value in values if value <= found]
    assert len(covered) * 100 >= percent * n > (len(covered) - 1) * 100


def test_an_idle_service_has_a_view() -> None:
    tiles = get_tiles([])
    assert (tiles["answers"], tiles["errors"], tiles["median time"]) == ("0", "–", "–")
    assert all(chart["top"] > 0 for chart in make_operation_desk([], [], "week", END, "7")["charts"])


def test_the_window_and_the_tenant_bound_what_is_read(database: Database) -> None:
    rows = [
        make_row(1, 5),
        make_row(2, 50, decisions=BLOCKED, reason="content_filter"),
        make_row(3, 61),
        make_row(4, 60 * 30),
    ]
    store_rows(database, rows, "acme")
    store_rows(database, [make_row(9, 1, user="rival", error="rival_error")], "rival")
    assert [row.id for row in read_answers(database, "acme", END - timedelta(hours=1))] == ["req_1", "req_2"]
    assert len(read_answers(database, "acme", END - timedelta(days=7))) == 4
    desk = make_operation_desk(read_answers(database, "acme", END - timedelta(hours=1)), [], "hour", END, "7")
    sections = {section["title"]: section["rows"] for section in desk["sections"]}
    assert sections["Refusals"] == [["content.weapons", 1]]
    assert sections["Errors"] == []
    assert sections["Versions"] == [["7", 2, {"time": (END - timedelta(minutes=5)).isoformat()}]]
    assert "rival" not in json.dumps(desk)
    assert "hunter2" not in json.dumps(desk)


def test_what_ready_complains_about_is_first() -> None:
    desk = make_operation_desk([], [], "hour", END, "7", {"policies": "content.yaml is refused"})
    assert desk["sections"][0]["rows"] == [["policies", "content.yaml is refused"]]


def test_a_detail_shows_decisions_and_no_text_and_only_to_its_tenant(database: Database) -> None:
    store_rows(database, [make_row(1, 5, decisions=BLOCKED)], "acme")
    detail = read_detail(database, "acme", "req_1")
    assert ["block", "content.weapons", "too high"] in detail["rows"]
    assert "hunter2" not in json.dumps(detail)
    for tenant, request in (("rival", "req_1"), ("acme", "req_2"), ("acme", "x" * 5000)):
        with pytest.raises(ServiceError, match="no such request"):
            read_detail(database, tenant, request)


def test_feedback_is_shown_as_far_as_it_was_shared() -> None:
    given = [
        Feedback(
            "acme",
            f"fb_{number}",
            "ans_1",
            "ada",
            END,
            "down",
            "wrong",
            "no\nway " + "x" * 900,
            "42",
            consent,
            messages,
            "",
            (),
            "7",
            "new",
        )
        for number, (consent, messages) in enumerate(
            [(True, (("user", "What is it?"), ("assistant", "41"))), (False, ())]
        )
    ]
    rows = make_operation_desk([], given, "hour", END, "7")["sections"][0]["rows"]
    assert [row[1] for row in rows] == ["What is it?", "(not shared)"]
    assert rows[0][5] == {"text": "Accept", "post": "/v1/admin/feedback/fb_0", "body": {"state": "accepted"}}
    assert len(rows[0][2]) == 500
    assert "\n" not in rows[0][2]
