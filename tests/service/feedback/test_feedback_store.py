"""Feedback belongs to an answer and its person, is trained on with consent only, and can be deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from service.access.caller import Caller
from service.database.database import Database
from service.feedback.feedback_store import MAX_CHARS, MAX_PER_DAY, FeedbackStore, NewFeedback
from service.journal.journal_tables import JOURNAL
from service.service_error import ServiceError

ADA, BOB, EVE = (
    Caller("acme", "ada", role="user"),
    Caller("acme", "bob", role="user"),
    Caller("evil", "eve", role="admin"),
)
OPERATOR = Caller("acme", "olga", role="operator")
TIME = datetime(2026, 11, 30, 12, tzinfo=UTC)


def mask(text: str) -> str:
    return text.replace("ada@example.org", "[email]")


def add_answer(database: Database, number: str = "aaa", **values: Any) -> str:
    """Write a row of the journal. Return the id of the answer."""
    row: dict[str, Any] = {
        column.name: 0 if column.type.python_type in (int, float) else ""
        for column in JOURNAL.c
        if column.name != "time"
    }
    row |= {"tenant": "acme", "id": f"req_{number}", "time": TIME, "user": "ada", "version": "7", "answer": "42."}
    row["messages"] = (
        '[{"role": "system", "text": "s"}, {"role": "user", "text": "I am ada@example.org. What is 6*7?"}]'
    )
    row["citations"] = '[{"title": "numpy.sum"}, {"title": "numpy.sum"}, {"title": "len"}]'
    with database.connect() as connection:
        connection.execute(insert(JOURNAL).values(**row | values))
    return f"ans_{number}"


@pytest.fixture
def store(database: Database) -> FeedbackStore:
    return FeedbackStore(database, mask, lambda: TIME)


def test_with_consent_the_conversation_is_copied_masked(database: Database, store: FeedbackStore) -> None:
    given = NewFeedback(add_answer(database), "down", "wrong", "no", "It is 42, says ada@example.org", consent=True)
    made = store.add(ADA, given)
    assert store.list_feedback("acme") == [made]
    assert made.question == "I am [email]. What is 6*7?"
    assert (made.text, made.correction, made.titles) == ("42.", "It is 42, says [email]", ("numpy.sum", "len"))
    assert (made.state, made.version) == ("new", "7")


def test_without_consent_nothing_of_the_conversation_is_kept(database: Database, store: FeedbackStore) -> None:
    made = store.add(ADA, NewFeedback(add_answer(database), "down", "wrong", "no", "It is 42."))
    assert (made.messages, made.text, made.correction, made.comment) == ((), "", "", "no")
    with pytest.raises(ServiceError, match="no consent"):
        store.review("acme", made.id, "accepted", "olga")
    assert store.review("acme", made.id, "rejected", "olga").state == "rejected"


def test_a_second_thumb_replaces_the_first(database: Database, store: FeedbackStore) -> None:
    answer = add_answer(database)
    store.add(ADA, NewFeedback(answer, "down", consent=True))
    second = store.add(ADA, NewFeedback(answer, "up", consent=True))
    assert store.list_feedback("acme") == [second]
    assert store.count("acme") == {"new_up": 1}


def test_only_the_person_may_say_something(database: Database, store: FeedbackStore) -> None:
    given = NewFeedback(add_answer(database), "down")
    for stranger in (BOB, EVE, OPERATOR):
        with pytest.raises(ServiceError) as caught:
            store.add(stranger, given)
        assert caught.value.status == 404
    assert store.list_feedback() == []


def test_review_is_bound_to_the_tenant(database: Database, store: FeedbackStore) -> None:
    made = store.add(ADA, NewFeedback(add_answer(database), "down", consent=True))
    with pytest.raises(ServiceError, match="there is none"):
        store.review("evil", made.id, "accepted", "eve")
    accepted = store.review("acme", made.id, "accepted", "olga", "Better: ada@example.org")
    assert (accepted.state, accepted.correction, accepted.reviewer) == ("accepted", "Better: [email]", "olga")
    assert store.list_feedback(None, ["accepted"]) == [accepted]


def test_erasing_a_person_deletes_what_was_accepted_too(database: Database, store: FeedbackStore) -> None:
    made = store.add(ADA, NewFeedback(add_answer(database), "down", consent=True))
    store.review("acme", made.id, "accepted", "olga")
    store.add(BOB, NewFeedback(add_answer(database, "bbb", user="bob"), "up"))
    assert store.erase_user("acme", "ada") == 1
    assert [row.user for row in store.list_feedback("acme")] == ["bob"]


def test_bounds(database: Database, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = add_answer(database)
    with pytest.raises(ServiceError, match="comment: too long"):
        store.add(ADA, NewFeedback(answer, "down", comment="x" * (MAX_CHARS + 1)))
    assert MAX_PER_DAY > 1
    monkeypatch.setattr("service.feedback.feedback_store.MAX_PER_DAY", 1)
    store.add(ADA, NewFeedback(answer, "down"))
    other = add_answer(database, "bbb")
    with pytest.raises(ServiceError) as caught:
        store.add(ADA, NewFeedback(other, "down"))
    assert caught.value.status == 429
    later = FeedbackStore(database, mask, lambda: TIME + timedelta(days=2))
    assert later.add(ADA, NewFeedback(other, "down")).answer == other
