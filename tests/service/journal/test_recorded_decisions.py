"""Decisions about other persons' data and administration are recorded, and are the authorizer's own."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import select

from service.access.caller import Caller
from service.database.database import Database
from service.journal.journal_tables import AUDIT
from service.journal.recorded_decisions import RECORDED, RecordedAuthorizer
from service.policy.cedar_authorizer import RESOURCES, CedarAuthorizer
from tests.service.journal.conftest import OpenJournal


def test_decisions_are_the_same_and_those_that_matter_are_recorded(tmp_path: Path, open_one: OpenJournal) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    journal = open_one(database).journal
    authorizer = CedarAuthorizer(journal._policies)  # pyright: ignore[reportPrivateUsage]
    recorded = RecordedAuthorizer(authorizer, journal)
    caller = Caller("acme", "grace hopper", "key_1", "educator", frozenset({"*"}))
    for action in RESOURCES:
        facts = {"tenant": "acme"}
        assert recorded.authorize(caller, action, "x", facts) == authorizer.authorize(caller, action, "x", facts)
    recorded.authorize(caller, "read_learners", "a text", {"tenant": "globex"})
    recorded.authorize(caller, "read_learners", "a text", {"tenant": "../no such"})
    journal.writer.close()
    with database.connect(is_read_only=True) as connection:
        rows = connection.execute(select(AUDIT.c.tenant, AUDIT.c.record).order_by(AUDIT.c.tenant, AUDIT.c.seq)).all()
    records = [(row.tenant, json.loads(row.record)) for row in rows if '"what":"admin.' in row.record]
    assert {tenant for tenant, _ in records} == {"acme"}  # nobody makes logs of tenants by naming them
    made = [(record["what"], record["action"], record.get("is_elsewhere", False)) for _, record in records]
    assert [what for what, _, _ in made[:-2]] == [f"admin.{action}" for action in RESOURCES if action in RECORDED]
    assert ("admin.read_learners", "allow", False) in made
    assert made[-2:] == [("admin.read_learners", "block", True)] * 2
    assert not [row for row in rows if "grace" in row.record or "no such" in row.record]
    database.close()
