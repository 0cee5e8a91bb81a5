"""The operator's view: traffic, latency, errors, refusals, feedback to review, versions, the last requests, of one tenant.

In: the journal and the feedback of the tenant, a window that ends now. Out: a view (desk_parts.py). Texts of messages are not in
it, except those of feedback whose givers have consented.
Memory: the numbers of at most MAX_ROWS answers; of more, the newest are counted, and the view says so. Time: O(answers).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import select

from service.database.database import Database
from service.feedback.feedback_store import Feedback
from service.journal.journal_tables import JOURNAL
from service.page.desk_parts import (
    Cell,
    make_chart,
    make_section,
    show_button,
    show_change,
    show_frac,
    show_seconds,
    show_text,
    show_time,
)

WINDOWS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
N_BUCKETS = 60
MAX_ROWS = 200_000
N_RECENT = 30
REFUSED, CANCELLED = "content_filter", "cancelled"


class AnswerRow(NamedTuple):
    """What is counted of an answer."""

    id: str
    time: datetime
    user: str
    model: str
    version: str
    reason: str
    error: str
    decisions: str
    seconds: float
    first_token_seconds: float
    n_tokens: int

    @property
    def is_error(self) -> bool:
        return bool(self.error) or self.reason == "error"


def read_answers(database: Database, tenant: str, since: datetime) -> list[AnswerRow]:
    """Return the answers of a tenant since a time, newest first."""
    columns = [JOURNAL.c[name] for name in AnswerRow._fields]
    query = select(*columns).where(JOURNAL.c.tenant == tenant, JOURNAL.c.time >= since)
    with database.connect(is_read_only=True) as connection:
        rows = connection.execute(query.order_by(JOURNAL.c.time.desc()).limit(MAX_ROWS)).all()
    return [AnswerRow(*row) for row in rows]


def make_operation_desk(
    rows: Sequence[AnswerRow],
    feedback: Sequence[Feedback],
    window: str,
    end: datetime,
    version: str,
    problems: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the view. `problems`: what /ready complains about, by part."""
    start = end - WINDOWS[window]
    complaints = [[part, show_text(problem)] for part, problem in (problems or {}).items()]
    about = f"Version {version} answers." + (
        f" Only the newest {MAX_ROWS:,} are counted." if len(rows) == MAX_ROWS else ""
    )
    return {
        "about": about,
        "choices": [[f"Last {name}", f"?window={name}", name == window] for name in WINDOWS],
        "tiles": _make_tiles(rows),
        "charts": _make_charts(rows, start, end),
        "sections": [
            *([make_section("Problems", ["Part", "Problem"], complaints)] if complaints else []),
            _list_feedback(feedback),
            *_count_causes(rows),
            _list_recent(rows),
        ],
    }


def find_percentile(values: Sequence[float], percent: int) -> float | None:
    """Return the nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)] if ordered else None


def _make_tiles(rows: Sequence[AnswerRow]) -> list[list[str]]:
    n, answered = len(rows), [row for row in rows if not row.is_error]
    seconds, first = [row.seconds for row in answered], [row.first_token_seconds for row in answered if row.n_tokens]
    return [
        ["answers", f"{n:,}"],
        ["errors", show_frac(sum(row.is_error for row in rows), n)],
        ["refused by policy", show_frac(sum(row.reason == REFUSED for row in rows), n)],
        ["stopped by the reader", show_frac(sum(row.reason == CANCELLED for row in rows), n)],
        ["median time", show_seconds(find_percentile(seconds, 50))],
        ["95 % take at most", show_seconds(find_percentile(seconds, 95))],
        ["median to the first token", show_seconds(find_percentile(first, 50))],
        ["tokens", f"{sum(row.n_tokens for row in rows):,}"],
    ]


def _make_charts(rows: Sequence[AnswerRow], start: datetime, end: datetime) -> list[dict[str, Any]]:
    buckets: list[list[AnswerRow]] = [[] for _ in range(N_BUCKETS)]
    for row in rows:
        at = int((row.time - start) / (end - start) * N_BUCKETS)
        buckets[min(max(at, 0), N_BUCKETS - 1)].append(row)
    all_of = [float(len(bucket)) for bucket in buckets]
    bad_of = [float(sum(row.is_error for row in bucket)) for bucket in buckets]
    times = [[row.seconds for row in bucket if not row.is_error] for bucket in buckets]
    p50, p95 = ([find_percentile(values, percent) or 0.0 for values in times] for percent in (50, 95))
    minutes = (end - start) / N_BUCKETS / timedelta(minutes=1)
    each = "each minute" if minutes == 1 else f"{minutes:g} minutes each"
    return [
        make_chart(
            f"Answers, {each}: at most {max(all_of):.0f}; with errors (red): at most {max(bad_of):.0f}",
            start,
            {"bar": all_of, "bar bad": bad_of},
        ),
        make_chart(
            f"Time of an answer: median at most {show_seconds(max(p50))}; 95th percentile (dashed) at most "
            f"{show_seconds(max(p95))}",
            start,
            {"line": p50, "line two": p95},
        ),
    ]


def _list_feedback(feedback: Sequence[Feedback]) -> dict[str, Any]:
    rows: list[list[Cell]] = []
    for each in feedback:
        url = f"/v1/admin/feedback/{each.id}"
        why = ": ".join(filter(None, [each.reason.replace("_", " "), each.comment]))
        rows.append(
            [
                "good" if each.rating == "up" else "bad",
                show_text(each.question) or "(not shared)",
                show_text(why) or None,
                show_text(each.correction) or None,
                show_time(each.time),
                show_change("Accept", url, {"state": "accepted"}),
                show_change("Reject", url, {"state": "rejected"}),
            ]
        )
    return make_section("Feedback to review", ["Rating", "Question", "Reason", "Correction", "Time", "", ""], rows)


def _count_causes(rows: Sequence[AnswerRow]) -> list[dict[str, Any]]:
    errors = Counter(row.error or "error" for row in rows if row.is_error)
    rules = Counter(rule for row in rows if row.decisions for rule in _list_blocking(row.decisions))
    versions = Counter(row.version for row in rows)
    newest = {row.version: row.time for row in reversed(rows)}
    return [
        make_section("Errors", ["Error", "Answers"], [[show_text(name), n] for name, n in errors.most_common(20)]),
        make_section("Refusals", ["Rule", "Answers"], [[show_text(name), n] for name, n in rules.most_common(20)]),
        make_section(
            "Versions",
            ["Version", "Answers", "Last answer"],
            [[show_text(name), n, show_time(newest[name])] for name, n in versions.most_common()],
        ),
    ]


def _list_blocking(decisions: str) -> set[str]:
    """Return the rules that refused something in an answer."""
    found: list[dict[str, Any]] = json.loads(decisions)
    return {rule for each in found if each["action"] == "block" for rule in each["rules"]}


def _list_recent(rows: Sequence[AnswerRow]) -> dict[str, Any]:
    names = ["Time", "Request", "User", "Model", "End", "Took", "Tokens"]
    return make_section(
        "Last answers",
        names,
        [
            [
                show_time(row.time),
                show_button(row.id, f"/v1/admin/desk/{row.id}"),
                show_text(row.user),
                show_text(row.model),
                show_text(row.error or row.reason),
                show_seconds(row.seconds),
                row.n_tokens,
            ]
            for row in rows[:N_RECENT]
        ],
    )
