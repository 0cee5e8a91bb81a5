"""The operator's view over HTTP: answers, what is behind one, the audit log, policies; bound to the tenant, each look recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import pytest
from sqlalchemy import select, update

from service.access.authentication import Authenticator
from service.access.caller import Role
from service.access.key_store import KeyGrant
from service.answers.answering import Answering, AnswerParts
from service.database.database import Database
from service.journal import journal_routes
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog
from service.journal.journal_routes import JournalParts
from service.journal.journal_tables import AUDIT
from service.policy.cedar_authorizer import CedarAuthorizer
from service.policy.policy_store import PolicyStore
from tests.service.api.scripted_service import make_service, run_server
from tests.service.journal.conftest import OpenJournal, make_request, record_answer

PERSONS: dict[str, tuple[str, Role]] = {
    "user": ("acme", "user"),
    "operator": ("acme", "operator"),
    "stranger": ("globex", "operator"),
    "stranger_admin": ("globex", "admin"),
    "root": ("local", "admin"),
}


class Running(NamedTuple):
    """A running service, and a client for each person."""

    clients: dict[str, httpx.Client]
    database: Database
    policies: PolicyStore

    def forbid(self, policy: str) -> None:
        """Add a Cedar policy for the tenant acme."""
        (self.policies.folder / "acme").mkdir()
        (self.policies.folder / "acme" / "authorization.cedar").write_text(policy)
        self.policies.refresh()

    def get(self, name: str, path: str, **params: Any) -> httpx.Response:
        return self.clients[name].get(path, params=params or None)


@pytest.fixture
def running(tmp_path: Path, open_one: OpenJournal) -> Iterator[Running]:
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    recorded, access = open_one(database), Authenticator(database)
    journal = recorded.journal
    policies = journal._policies  # pyright: ignore[reportPrivateUsage]
    authorizer = CedarAuthorizer(policies)
    parts = JournalParts(journal, AuditLog(database, AuditHeads(tmp_path / "audit")), policies, authorizer)
    service = make_service(authenticate=access.authenticate_request, journal=parts, authorizer=authorizer)
    answer_parts = AnswerParts(service.assistants, ThreadPoolExecutor(8), authorizer, recorders=(journal,))
    routers = (*service.routers, journal_routes.make_router())
    service = replace(service, answering=Answering(answer_parts), routers=routers)
    keys = {name: access.keys.add(KeyGrant(tenant, name, role))[1] for name, (tenant, role) in PERSONS.items()}
    with run_server(service) as server:
        clients = {
            name: httpx.Client(base_url=server.url, timeout=60, headers={"Authorization": f"Bearer {key}"})
            for name, key in keys.items()
        }
        yield Running(clients, database, policies)
        for client in clients.values():
            client.close()
    access.close()
    database.close()


def ask(running: Running, name: str, text: str) -> str:
    body = {"model": "minigpt", "messages": [{"role": "user", "content": text}]}
    response = running.clients[name].post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def test_an_answer_is_in_the_journal_before_its_client_has_it_all(running: Running) -> None:
    name = ask(running, "user", "cite")
    listed = running.get("operator", "/v1/admin/journal").json()
    [row] = listed["data"]
    assert (row["user"], row["outcome"], row["decision"], listed["has_more"]) == ("user", "end", "allow", False)
    assert row["answer"].removeprefix("ans_") == name.removeprefix("chatcmpl-")
    shown = running.get("operator", f"/v1/admin/journal/{name}").json()
    assert shown["messages"] == [{"role": "user", "text": "cite"}]
    assert shown["citations"][0]["sha256"] == "ab" * 32
    assert shown["commands"][0] == "python -m pipeline.ledger why d1"
    assert shown["decisions"][0]["rules"][0]["rule"] == "cedar.users-answer"


def test_streamed_answers_are_recorded_too_and_lists_are_filtered_and_paged(running: Running) -> None:
    body = {"model": "minigpt", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    with running.clients["user"].stream("POST", "/v1/chat/completions", json=body) as response:
        text = "".join(response.iter_text())
    assert text.rstrip().endswith("data: [DONE]")
    for number in range(4):
        ask(running, "operator", f"hello {number}")
    rows = running.get("operator", "/v1/admin/journal").json()["data"]
    assert [row["user"] for row in rows] == ["operator"] * 4 + ["user"]
    assert [row["time"] for row in rows] == sorted((row["time"] for row in rows), reverse=True)
    assert [row["user"] for row in running.get("operator", "/v1/admin/journal", user="user").json()["data"]] == ["user"]
    first = running.get("operator", "/v1/admin/journal", limit=2).json()
    assert (len(first["data"]), first["has_more"]) == (2, True)
    rest = running.get("operator", "/v1/admin/journal", before=rows[1]["time"]).json()["data"]
    assert len(rest) == 3
    assert running.get("operator", "/v1/admin/journal", outcome="error").json()["data"] == []


@pytest.mark.parametrize("path", ["/v1/admin/journal", "/v1/admin/audit/verify", "/v1/admin/policies"])
def test_who_may_look(running: Running, path: str) -> None:
    ask(running, "user", "hello")
    statuses = {
        name: (running.get(name, path).status_code, running.get(name, path, tenant="acme").status_code)
        for name in PERSONS
    }
    assert statuses == {
        "user": (403, 403),
        "operator": (200, 200),
        "stranger": (200, 403),
        "stranger_admin": (200, 403),
        "root": (200, 200),
    }
    assert running.get("root", path, tenant="../x").status_code == 400
    assert httpx.get(str(running.clients["root"].base_url) + path).status_code == 401


def test_one_tenant_never_sees_anothers_answer(running: Running) -> None:
    name = ask(running, "user", "a secret of acme")
    assert running.get("stranger", "/v1/admin/journal").json()["data"] == []
    response = running.get("stranger", f"/v1/admin/journal/{name}")
    assert (response.status_code, "secret" in response.text) == (404, False)
    assert running.get("root", f"/v1/admin/journal/{name}", tenant="acme").status_code == 200


def test_every_look_is_recorded_also_a_refused_one(running: Running) -> None:
    running.get("operator", "/v1/admin/journal")
    running.get("stranger", "/v1/admin/journal", tenant="acme")
    with running.database.connect(is_read_only=True) as connection:
        rows = connection.execute(select(AUDIT.c.tenant, AUDIT.c.record)).all()
    records = [(row.tenant, json.loads(row.record)) for row in rows if '"what":"admin.' in row.record]
    looks = sorted((tenant, each["what"], each["action"], each.get("is_elsewhere")) for tenant, each in records)
    assert looks == [("acme", "admin.read_journal", "allow", None), ("globex", "admin.read_journal", "block", True)]


def test_verification_finds_a_manipulation(running: Running) -> None:
    ask(running, "user", "hello")
    assert running.get("operator", "/v1/admin/audit/verify").json()["is_whole"] is True
    with running.database.connect() as connection:
        connection.execute(update(AUDIT).where(AUDIT.c.tenant == "acme", AUDIT.c.seq == 2).values(record="{}"))
    report = running.get("operator", "/v1/admin/audit/verify").json()
    assert (report["is_whole"], report["problems"][0][:6]) == (False, "row 2:")


def test_policies_show_what_counts(running: Running) -> None:
    shown = running.get("operator", "/v1/admin/policies").json()
    assert (shown["tenant"], shown["problems"], shown["content"]["storage"]["messages"]) == ("acme", [], "full")
    assert "tainted-window" in shown["cedar"]


BAD = {
    "/v1/admin/journal?limit=0": 400,
    "/v1/admin/journal?limit=x": 400,
    "/v1/admin/journal?before=2026-01-01T00:00:00": 400,
    "/v1/admin/journal?before=never": 400,
    "/v1/admin/journal?user=" + "x" * 300: 400,
    "/v1/admin/journal?user=%00": 200,
    "/v1/admin/journal/%00": 404,
    "/v1/admin/journal/" + "x" * 2000: 404,
    "/v1/admin/journal/req_" + "a" * 24: 404,
}


def test_bad_requests_get_an_error_in_openais_shape(running: Running) -> None:
    for path, status in BAD.items():
        response = running.get("operator", path)
        assert response.status_code == status, path
        if status != 200:
            error = cast("dict[str, Any]", response.json()["error"])
            assert set(error) == {"message", "type", "param", "code"}
            assert len(error["message"]) < 400


def test_a_service_without_a_journal_says_so() -> None:
    service = make_service()
    with run_server(replace(service, routers=(*service.routers, journal_routes.make_router()))) as server:
        assert httpx.get(f"{server.url}/v1/admin/journal").status_code == 404


def test_a_long_history_is_listed_quickly(running: Running, tmp_path: Path, open_one: OpenJournal) -> None:
    journal = open_one(running.database).journal
    for number in range(60):
        record_answer(journal, make_request(number))
    assert len(running.get("operator", "/v1/admin/journal").json()["data"]) == 50


def test_calls_that_are_no_answers_are_decided_and_recorded_too(running: Running) -> None:
    body = {"model": "minigpt", "input": "a secret text"}
    assert running.clients["user"].post("/v1/embeddings", json=body).status_code == 200
    assert running.clients["user"].post("/tokenize", json={"prompt": "a secret text"}).status_code == 200
    forbid = '@id("acme-no-vectors") forbid(principal, action == Action::"embed", resource);'
    running.forbid(forbid)
    response = running.clients["user"].post("/v1/embeddings", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert running.get("operator", "/v1/admin/audit/verify").json()["is_whole"] is True
    with running.database.connect(is_read_only=True) as connection:
        text = "\n".join(
            connection.scalars(select(AUDIT.c.record).where(AUDIT.c.tenant == "acme").order_by(AUDIT.c.seq))
        )
    records = [json.loads(line) for line in text.splitlines()]
    calls = [(each["what"], each["action"]) for each in records if each["what"].startswith("call.")]
    assert calls == [("call.embed", "allow"), ("call.tokenize", "allow"), ("call.embed", "block")]
    assert "secret" not in text
