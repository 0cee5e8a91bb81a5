"""Store feedback on answers, and the decisions of those who review it.

In: a rating with perhaps a reason, a comment and a correction, by the person who got the answer. Out: rows. The
conversation and the answer are copied from the journal only with the person's consent, with personal data masked; without it a row
has nothing but the rating, its reason and the comment. Bounds: MAX_CHARS of a text, MAX_PER_DAY of a person.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row, delete, func, insert, select, update

from service.access.caller import Caller
from service.clock import Clock, now
from service.database.database import Database
from service.feedback.feedback_tables import FEEDBACK
from service.journal.journal_tables import JOURNAL
from service.service_error import ServiceError

Rating = Literal["up", "down"]
Reason = Literal["wrong", "no_source", "incomplete", "refused", "unsafe", "other"]
State = Literal["new", "accepted", "rejected"]
MAX_CHARS = 8_000
MAX_PER_DAY = 1_000
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True)
class NewFeedback:
    """What a person says about an answer."""

    answer: str
    rating: Rating
    reason: Reason | None = None
    comment: str = ""
    correction: str = ""
    consent: bool = False


@dataclass(frozen=True)
class Feedback:
    """A row. `messages` are (role, text) up to the answer; empty without consent."""

    tenant: str
    id: str
    answer: str
    user: str
    time: datetime
    rating: str
    reason: str
    comment: str
    correction: str
    consent: bool
    messages: tuple[tuple[str, str], ...]
    text: str
    titles: tuple[str, ...]
    version: str
    state: str
    reviewer: str = ""
    reviewed: datetime | None = None

    @property
    def question(self) -> str:
        """The last message of the user."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")


class FeedbackStore:
    """Feedback in the service's database. Blocking: call it in a worker thread. `mask` removes personal data and secrets."""

    def __init__(self, database: Database, mask: Callable[[str], str], clock: Clock = now) -> None:
        self._database, self._mask, self._clock = database, mask, clock

    def add(self, caller: Caller, given: NewFeedback) -> Feedback:
        """Store feedback; it replaces what the person said about this answer before.

        Raises: ServiceError 404 for an answer that is not this person's, 400 for texts that are too long, 429 for too many.
        """
        for name in ("comment", "correction"):
            if len(text := getattr(given, name)) > MAX_CHARS:
                message = f"{name}: too long; found {len(text):,} characters; at most {MAX_CHARS:,} fit."
                raise ServiceError(400, message, code="too_long", param=name)
        number = given.answer.partition("_")[2]
        with self._database.connect() as connection:
            row = connection.execute(
                select(JOURNAL).where(JOURNAL.c.tenant == caller.tenant, JOURNAL.c.id == f"req_{number}")
            ).one_or_none()
            if row is None or row.user != caller.user:  # whatever the role: nobody consents for somebody else
                message = (
                    f"answer: there is no such answer of yours; found {given.answer[:80]!r}; give the id of an answer."
                )
                raise ServiceError(404, message, code="answer_not_found", param="answer")
            self._check_rate(connection, caller)
            made = self._make(caller, given, row)
            old = FEEDBACK.c.tenant == caller.tenant, FEEDBACK.c.answer == made.answer, FEEDBACK.c.user == caller.user
            connection.execute(delete(FEEDBACK).where(*old))
            connection.execute(insert(FEEDBACK).values(**_to_values(made)))
        return made

    def list_feedback(
        self, tenant: str | None = None, states: Sequence[str] = (), limit: int = 100, since: datetime | None = None
    ) -> list[Feedback]:
        """Return rows, newest first: of a tenant (None: of all), in these states (none: in any)."""
        query = select(FEEDBACK).order_by(FEEDBACK.c.time.desc(), FEEDBACK.c.id).limit(limit)
        if tenant is not None:
            query = query.where(FEEDBACK.c.tenant == tenant)
        if states:
            query = query.where(FEEDBACK.c.state.in_(states))
        if since is not None:
            query = query.where(FEEDBACK.c.time >= since)
        with self._database.connect(is_read_only=True) as connection:
            return [_from_row(row) for row in connection.execute(query)]

    def review(
        self,
        tenant: str | None,
        feedback_id: str,
        state: State,
        reviewer: str,
        correction: str | None = None,
        titles: Sequence[str] | None = None,
    ) -> Feedback:
        """Accept or reject feedback; a reviewer may put in a better correction, or the titles that answer.

        Raises: ServiceError 404, and 409 where there is no consent to train on it.
        """
        with self._database.connect() as connection:
            where = [FEEDBACK.c.id == feedback_id, *([FEEDBACK.c.tenant == tenant] if tenant is not None else [])]
            row = connection.execute(select(FEEDBACK).where(*where)).one_or_none()
            if row is None:
                message = f"feedback: there is none of this id; found {feedback_id[:80]!r}; list it first."
                raise ServiceError(404, message, code="feedback_not_found", param="id")
            found = _from_row(row)
            if state == "accepted" and not found.consent:
                message = "feedback: can't be accepted; found no consent of the person to train on it; reject it."
                raise ServiceError(409, message, code="no_consent", param="state")
            made = replace(found, state=state, reviewer=reviewer, reviewed=self._clock())
            if correction is not None:
                made = replace(made, correction=self._mask(correction[:MAX_CHARS]))
            if found.rating == "down" and titles is None:
                made = replace(made, titles=())  # what a wrong answer cited answers nothing
            if titles is not None:
                made = replace(made, titles=tuple(title[:200] for title in titles if title.strip())[:10])
            connection.execute(update(FEEDBACK).where(*where).values(**_to_values(made)))
        return made

    def count(self, tenant: str | None = None) -> dict[str, int]:
        """Return how many rows there are by state and rating, such as new_down."""
        query = select(FEEDBACK.c.state, FEEDBACK.c.rating, func.count()).group_by(FEEDBACK.c.state, FEEDBACK.c.rating)
        if tenant is not None:
            query = query.where(FEEDBACK.c.tenant == tenant)
        with self._database.connect(is_read_only=True) as connection:
            return {f"{state}_{rating}": count for state, rating, count in connection.execute(query)}

    def erase_user(self, tenant: str, user: str) -> int:
        """Delete what a person said, also what was accepted. Return the number of rows."""
        with self._database.connect() as connection:
            where = FEEDBACK.c.tenant == tenant, FEEDBACK.c.user == user
            return connection.execute(delete(FEEDBACK).where(*where)).rowcount

    def _check_rate(self, connection: Any, caller: Caller) -> None:
        since = self._clock() - timedelta(days=1)
        where = FEEDBACK.c.tenant == caller.tenant, FEEDBACK.c.user == caller.user, FEEDBACK.c.time >= since
        n_given = connection.scalar(select(func.count()).select_from(FEEDBACK).where(*where))
        if n_given >= MAX_PER_DAY:
            message = f"feedback: too much of one person; found {n_given} in a day; send more tomorrow."
            raise ServiceError(429, message, code="too_much_feedback", retry_after=3600)

    def _make(self, caller: Caller, given: NewFeedback, row: Row[Any]) -> Feedback:
        messages: list[dict[str, str]] = json.loads(row.messages or "[]") if given.consent else []
        citations: list[dict[str, Any]] = json.loads(row.citations or "[]")
        return Feedback(
            caller.tenant,
            "fb_" + "".join(secrets.choice(_ALPHABET) for _ in range(24)),
            f"ans_{row.id.partition('_')[2]}",
            caller.user,
            self._clock(),
            given.rating,
            given.reason or "",
            self._mask(given.comment),
            self._mask(given.correction) if given.consent else "",
            given.consent,
            tuple((each["role"], self._mask(each["text"])) for each in messages),
            self._mask(row.answer) if given.consent else "",
            tuple(dict.fromkeys(str(each["title"]) for each in citations)),
            row.version,
            "new",
        )


def _to_values(made: Feedback) -> dict[str, Any]:
    values = {name: getattr(made, name) for name in FEEDBACK.c.keys()}  # noqa: SIM118 - a collection of columns, no dict
    values["messages"] = json.dumps([list(each) for each in made.messages], ensure_ascii=False)
    values["titles"] = json.dumps(list(made.titles), ensure_ascii=False)
    return values


def _from_row(row: Row[Any]) -> Feedback:
    values = {name: getattr(row, name) for name in FEEDBACK.c.keys()}  # noqa: SIM118
    values["messages"] = tuple((role, text) for role, text in json.loads(values["messages"]))
    values["titles"] = tuple(json.loads(values["titles"]))
    return Feedback(**values)
