"""The page's own data: each person sees their own memories, educators and operators what is their tenant's and no other's."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from assistant.conversation.events import Message
from assistant.memory.memory_store import MemoryStore
from assistant.profiles.handover import summarize_by_quoting, write_handover
from assistant.profiles.learner_log import LearnerLog
from service.access.caller import Caller, Role
from service.access.tenant_files import TenantFiles
from service.answers.interfaces import ModelDescription
from service.api.http.error_responses import install_errors
from service.page.page_data_routes import make_router
from service.policy.cedar_authorizer import CedarAuthorizer
from service.policy.policy_store import PolicyStore

TIME = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
ALL = frozenset({"*"})


class PageService:
    """The parts that the routes read, and who the next request is from."""

    def __init__(self, state: Path) -> None:
        self.settings, self.files = SimpleNamespace(state=state), TenantFiles(state)
        self.inference = SimpleNamespace(description=ModelDescription("minigpt", "7", "sft", 8, 8, 1, "float32"))
        self.dropped: list[tuple[str, str]] = []
        self.assistants = SimpleNamespace(sessions=SimpleNamespace(drop=lambda *who: self.dropped.append(who)))
        self.caller = Caller("acme", "ada", "key_1", "user", ALL)
        self.extras: dict[str, Any] = {"authenticate": self._authenticate, "list_users": lambda tenant: ["ada", "bob"]}

    async def _authenticate(self, request: object) -> Caller:
        return self.caller

    def call(self, method: str, path: str) -> tuple[int, Any]:
        app = FastAPI()
        app.state.service = self
        app.include_router(make_router())
        install_errors(app)

        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                return await client.request(method, path)

        answer = asyncio.run(send())
        return answer.status_code, answer.json()

    def get(self, path: str) -> Any:
        status, body = self.call("GET", path)
        assert status == 200, body
        return body


@pytest.fixture
def service(tmp_path: Path) -> PageService:
    return PageService(tmp_path)


@pytest.mark.parametrize("has_policy", [True, False], ids=["cedar", "no policy"])
@pytest.mark.parametrize(
    ("role", "desks"),
    [("user", []), ("educator", ["learners"]), ("operator", ["operation"]), ("admin", ["learners", "operation"])],
)
def test_the_page_shows_each_role_its_views(
    service: PageService, role: Role, desks: list[str], has_policy: bool
) -> None:
    if has_policy:
        service.extras["authorizer"] = CedarAuthorizer(PolicyStore())
    service.caller = Caller("acme", "ada", "key_1", role, ALL)
    me = service.get("/v1/me")
    assert [desk["name"] for desk in me["desks"]] == desks
    assert (me["tenant"], me["user"], me["role"], me["version"]) == ("acme", "ada", role, "7")
    assert service.call("GET", "/v1/educator/desk")[0] == (200 if "learners" in desks else 403)
    for path in (
        "/v1/admin/desk",
        "/v1/admin/desk/req_x",
    ):  # without a journal there is nothing to see for those who may
        assert service.call("GET", path)[0] == (404 if "operation" in desks else 403)


def test_a_key_needs_the_scope(service: PageService) -> None:
    service.caller = Caller("acme", "ada", "key_1", "admin", frozenset({"chat"}))
    for path in ("/v1/memories", "/v1/educator/desk", "/v1/admin/desk"):
        status, body = service.call("GET", path)
        assert (status, body["error"]["code"]) == (403, "missing_scope")
    assert service.get("/v1/me")["has_memory"] is False
    assert service.get("/v1/me")["desks"] == []


def test_memories_are_those_of_the_person_alone_and_forgotten_from_the_file(service: PageService) -> None:
    service.extras["authorizer"] = CedarAuthorizer(PolicyStore())
    people = {"ada": Caller("acme", "ada", "k", "user", ALL), "bob": Caller("acme", "bob", "k", "admin", ALL)}
    people["other"] = Caller("rival", "ada", "k", "admin", ALL)
    stores = {name: MemoryStore(service.files.get_memory_file(caller)) for name, caller in people.items()}
    for name, store in stores.items():
        for number in range(2):
            store.add(f"The secret of {name} is number {number}.", "c", 1, TIME)
    service.caller = people["ada"]
    data = service.get("/v1/memories")["data"]
    assert [each["text"] for each in data] == [f"The secret of ada is number {number}." for number in range(2)]
    assert data[0]["source"].startswith("conversation c, turn 1")
    assert service.call("DELETE", f"/v1/memories/{data[0]['number']}") == (
        200,
        {"object": "memory.deleted", "n_forgotten": 1},
    )
    assert service.dropped == [("acme", "ada")]
    assert b"ada is number 0" not in b"".join(path.read_bytes() for path in stores["ada"].path.parent.iterdir())
    assert service.call("DELETE", f"/v1/memories/{data[0]['number']}")[0] == 404
    assert service.call("DELETE", "/v1/memories")[1]["n_forgotten"] == 1
    assert service.get("/v1/memories")["data"] == []
    assert all(len(stores[name].list_memories(TIME)) == 2 for name in ("bob", "other"))


@pytest.mark.parametrize(
    ("number", "status"), [("99999999999999999999999999", 404), ("-1", 404), ("0", 404), ("x", 422)]
)
def test_wrong_memories(service: PageService, number: str, status: int) -> None:
    MemoryStore(service.files.get_memory_file(service.caller)).add("Something.", "c", 1, TIME)
    found, body = service.call("DELETE", f"/v1/memories/{number}")
    assert found in (status, 400) if status == 422 else found == status
    assert body["error"]["message"]


def test_reading_makes_no_file_and_a_damaged_one_is_said(service: PageService) -> None:
    assert service.get("/v1/memories")["data"] == []
    assert list(service.settings.state.iterdir()) == []
    path = service.files.get_memory_file(service.caller)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)
    status, body = service.call("GET", "/v1/memories")
    assert status == 503
    assert str(path) not in str(body)


def log_learner(service: PageService, user: str, tenant: str = "acme", profile: str = "Tutor") -> str:
    """Log what a learner does; return the name of the file."""
    name = service.files.get_user_name(Caller(tenant, user))
    log = LearnerLog(service.files.get_folder(tenant) / "learners" / profile, name)
    for verb in ("asked", "attempted", "failed", "attempted", "passed"):
        log.add(TIME, verb, "k", f"{user} {verb}", ["generators"])
    return name


def test_educators_see_the_learners_of_their_tenant_by_name(service: PageService) -> None:
    service.caller = Caller("acme", "eve", "k", "educator", ALL)
    names = [log_learner(service, user) for user in ("ada", "stranger")]
    log_learner(service, "rival", "rival")
    rows = service.get("/v1/educator/desk")["sections"][0]["rows"]
    assert {row[0]["text"] for row in rows} == {"ada", f"unknown ({names[1][:8]})"}
    ada = next(row for row in rows if row[0]["text"] == "ada")
    assert ada[1:7] == ["Tutor", 1, 2, 1, 1, 0]
    assert (ada[7]["n"], ada[7]["of"], ada[8]) == (1, 2, {"time": "2026-11-30T12:00:00+00:00"})
    detail = service.get(ada[0]["open"])
    assert detail["title"] == "ada"
    assert [row[:2] for row in detail["rows"]][:2] == [["passed", "ada passed"], ["attempted", "ada attempted"]]
    assert "rival" not in str(rows)


def test_the_hardest_material_comes_first(service: PageService) -> None:
    service.caller = Caller("acme", "eve", "k", "educator", ALL)
    log = LearnerLog(service.files.get_folder("acme") / "learners" / "Tutor", "x")
    results = {
        "loops": ["attempted", "passed"],
        "generators": ["attempted", "failed", "attempted", "passed"],
        "sets": ["attempted", "abandoned"],
    }
    for title, verbs in results.items():
        for verb in verbs:
            log.add(TIME, verb, "k", "text", [title])
    rows = service.get("/v1/educator/desk")["sections"][1]["rows"]
    assert [row[:5] for row in rows] == [["sets", 1, 0, 0, 1], ["generators", 2, 1, 1, 0], ["loops", 1, 1, 0, 0]]


class AuditedParts:
    """Stands for the journal: keeps what is recorded."""

    def __init__(self) -> None:
        self.journal, self.recorded = self, list[tuple[str, str, str, str]]()

    def record(self, caller: Caller, what: str, subject: str, details: dict[str, str]) -> Future[None]:
        self.recorded.append((caller.user, what, subject, details["action"]))
        future: Future[None] = Future()
        future.set_result(None)
        return future


def test_who_looked_at_whom_is_recorded_also_if_it_was_not_permitted(service: PageService) -> None:
    audited = service.extras["journal"] = AuditedParts()
    name = log_learner(service, "ada")
    for role in ("educator", "user"):
        service.caller = Caller("acme", "eve", "k", role, ALL)  # type: ignore[arg-type]
        service.call("GET", f"/v1/educator/learners/Tutor/{name}")
    assert audited.recorded == [
        ("eve", "page.read_learners", name, "allow"),
        ("eve", "page.read_learners", name, "block"),
    ]


def test_a_damaged_log_is_counted_not_hidden(service: PageService) -> None:
    service.caller = Caller("acme", "eve", "k", "educator", ALL)
    name = log_learner(service, "ada")
    with (service.files.get_folder("acme") / "learners" / "Tutor" / f"{name}.jsonl").open("ab") as file:
        file.write(b'{"cut": \n\xff\xfe\n')
    assert service.get("/v1/educator/desk")["sections"][0]["rows"][0][0]["text"] == "ada (2 damaged lines)"


def test_handovers_are_read(service: PageService) -> None:
    service.caller = Caller("acme", "eve", "k", "educator", ALL)
    folder = service.files.get_profile_folders(Caller("acme", "bob"))["handover_folder"]
    messages = [Message.of("user", "Where is it?"), Message.of("assistant", "I don't know.")]
    path = write_handover(folder, summarize_by_quoting(messages, "Support", TIME), TIME)
    (folder / "notes.md").write_text("not a handover")
    [row] = service.get("/v1/educator/desk")["sections"][2]["rows"]
    assert row[:3] == [{"time": "2026-11-30T12:00:00+00:00"}, "bob", 1]
    assert service.get(row[3]["open"])["text"] == path.read_text()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/educator/learners/Tutor/..%2F..%2Fsecret",
        "/v1/educator/learners/..%2F..%2Frival%2Flearners%2FTutor/secret",
        "/v1/educator/learners/%2e%2e/secret",
        "/v1/educator/learners/Tutor/nobody",
        "/v1/educator/learners/Tutor/%00",
        "/v1/educator/handovers/x/..%2F..%2Fsecret",
        "/v1/educator/handovers/..%2Fx/2026-11-30T12-00-00-1",
        "/v1/educator/handovers/x/2026-11-30T12-00-00-1",
        "/v1/educator/handovers/x/" + "9" * 5000,
    ],
)
def test_no_name_leads_out_of_the_folder(service: PageService, path: str) -> None:
    service.caller = Caller("acme", "eve", "k", "educator", ALL)
    log_learner(service, "ada")
    for folder in ("", "tenants/acme/", "tenants/acme/learners/"):
        for ending in (".jsonl", ".md"):
            (service.settings.state / f"{folder}secret{ending}").write_text("CONTENT")
    status, body = service.call("GET", path)
    assert status == 404
    assert "CONTENT" not in str(body)
