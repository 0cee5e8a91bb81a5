"""Two tenants of one service behave as two tenants of two services: 20,000 random operations, no difference.

Both tenants use the same names for everything that a caller can choose (people, collections, documents, requests), and name each
other's keys and answers. Every store is the real one: keys, limits, memories, collections, logs of learners, handovers, journal,
audit log, feedback; people are erased and tenants removed in between. What is random (ids) is compared by its order.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from assistant.conversation.events import Message
from assistant.knowledge.collection import StoredDocument, list_collections, open_collection
from assistant.knowledge.collection_writer import NewDocument, open_writer
from assistant.knowledge.knowledge_base import Knowledge
from assistant.memory.memory_store import MemoryStore
from assistant.profiles.handover import write_handover
from assistant.profiles.learner_log import LearnerLog
from model.retrieval.cutting.source_texts import SourceText, cut_documents
from service.access.authentication import Authenticator
from service.access.caller import Caller
from service.access.counters import MemoryCounters
from service.access.failed_attempts import FailedAttempts
from service.access.key_store import KeyGrant, KeyStore
from service.access.limiter import QuotaLimiter
from service.access.quota import Quota
from service.access.tenant_files import TenantFiles
from service.access.tenant_store import TenantStore
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, ModelDescription
from service.database.database import Database
from service.feedback.feedback_store import FeedbackStore, NewFeedback
from service.journal.answer_journal import AnswerJournal
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog, verify_tenant
from service.journal.erasing import erase_person
from service.journal.journal_tables import JOURNAL
from service.journal.journal_writer import JournalWriter
from service.policy.policy_store import PolicyStore
from service.service_error import ServiceError

N_OPERATIONS = 20_000
TENANTS = ("acme", "zeta")
PEOPLE = ("ann", "bob", "cleo")
ROLES = ("user", "educator", "operator", "admin")
WORDS = ("leave", "travel", "budget", "norm", "inverse", "parental", "weeks", "trains")
START = datetime(2026, 11, 30, 12, tzinfo=UTC)
MODEL = ModelDescription("minigpt", "7", "sft", 512, 2_000, 3_000_000, "float32")
_IDS = re.compile(r"(key|fb)_[a-z0-9]+")
_TEXT_STORES = "memories", "learners", "handovers"


class NoMasking:
    """Masks nothing, so that messages are stored as they are."""

    def mask(self, text: str, kinds: Any) -> tuple[str, dict[str, int]]:
        return text, {}


@dataclass
class World:
    """What the operations share: the time, and who asks."""

    seconds: float = 0.0
    n_answers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TENANTS, 0))

    def get_time(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@dataclass
class Held:
    """What a tenant has been given by a service, in order: secrets, feedback, requests that run."""

    secrets: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    feedback: list[str] = field(default_factory=list[str])
    running: list[AbstractAsyncContextManager[Any]] = field(default_factory=list[AbstractAsyncContextManager[Any]])
    n_requests: int = 0


class OneService:
    """All stores of a service, without HTTP and without a model. `tenants` are those who use it."""

    def __init__(self, folder: Path, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.world, self.loop = world, loop
        self.files = TenantFiles(folder)
        self.database = Database.open(f"sqlite:///{folder / 'service.sqlite'}")
        clock = world.get_time
        keys = KeyStore(self.database, clock)
        self.access = Authenticator(self.database, keys, FailedAttempts(burst=10**9))
        keys.add(KeyGrant(role="admin"))  # of whoever runs the service: it is closed from the beginning
        self.tenants = TenantStore(self.database, self.files, clock)
        limits = Quota(requests_per_minute=40, tokens_per_minute=3_000, concurrent=3)
        self.limiter = QuotaLimiter(MemoryCounters(lambda: world.seconds), self.access.get_quota, lambda tenant: limits)
        self.log = AuditLog(self.database, AuditHeads(folder / "audit"))
        self.writer = JournalWriter(self.log, clock)
        self.journal = AnswerJournal(self.writer, PolicyStore(None), lambda: MODEL, NoMasking(), clock=clock)
        self.feedback = FeedbackStore(self.database, lambda text: text, clock)
        self.held = {tenant: Held() for tenant in TENANTS}

    def close(self) -> None:
        for held in self.held.values():
            for running in held.running:
                self.loop.run_until_complete(running.__aexit__(None, None, None))
        self.writer.close()
        self.access.close()
        self.database.close()

    def choose_key(self, tenant: str, number: int) -> tuple[str, str]:
        secrets = self.held[tenant].secrets
        return secrets[number % len(secrets)] if secrets else ("key_none", "mg-none")

    def do(self, name: str, tenant: str, dice: random.Random) -> Any:
        """Do an operation; return what its caller sees of it, with ids by their order."""
        try:
            result = OPERATIONS[name][1](self, tenant, dice)
        except ServiceError as error:
            return error.status, error.code, self._scrub(error.message), sorted(error.headers.items())
        except ValueError as error:
            return "ValueError", self._scrub(str(error))
        return self._scrub(result)

    def _scrub(self, value: Any) -> str:
        return _IDS.sub(r"\1_…", str(value)).replace(str(self.files.state), "STATE")


def add_key(service: OneService, tenant: str, dice: random.Random) -> Any:
    days = dice.choice([None, 0.001, 1])
    expires = service.world.get_time() + timedelta(days=days) if days else None
    quota = dice.choice([Quota(), Quota(20, 2_000, 50_000, 2)])
    grant = KeyGrant(tenant, dice.choice(PEOPLE), dice.choice(ROLES), (), expires, quota)
    key, secret = service.access.keys.add(grant)
    service.held[tenant].secrets.append((key.id, secret))
    return key.grant


def revoke_key(service: OneService, tenant: str, dice: random.Random) -> Any:
    key_id, _ = service.choose_key(tenant, dice.randrange(100))
    return service.access.keys.revoke(tenant, key_id).revoked


def rotate_key(service: OneService, tenant: str, dice: random.Random) -> Any:
    key_id, _ = service.choose_key(tenant, dice.randrange(100))
    key, secret = service.access.keys.rotate(tenant, key_id, timedelta(seconds=dice.choice([0, 600])))
    service.held[tenant].secrets.append((key.id, secret))
    return key.grant


def name_the_others_key(service: OneService, tenant: str, dice: random.Random) -> Any:
    """Revoke a key of the other tenant: there is no such key."""
    other = TENANTS[1 - TENANTS.index(tenant)]
    key_id, _ = service.choose_key(other, dice.randrange(100))
    return service.access.keys.revoke(tenant, key_id)


def list_keys(service: OneService, tenant: str, dice: random.Random) -> Any:
    time = service.world.get_time()
    return sorted((str(key.grant), key.get_state(time)) for key in service.access.keys.list_keys(tenant))


def authenticate(service: OneService, tenant: str, dice: random.Random) -> Caller:
    _, secret = service.choose_key(tenant, dice.randrange(100))
    return service.access.authenticate({"authorization": f"Bearer {secret}"}, "203.0.113.9")


def admit(service: OneService, tenant: str, dice: random.Random) -> Any:
    caller = authenticate(service, tenant, dice)
    running = service.limiter.admit(caller, dice.randrange(1, 400))
    admission = service.loop.run_until_complete(running.__aenter__())
    if dice.random() < 0.8:
        admission.correct(dice.randrange(1, 500))
    service.held[tenant].running.append(running)
    return admission.headers


def finish(service: OneService, tenant: str, dice: random.Random) -> Any:
    held = service.held[tenant]
    if held.running:
        running = held.running.pop(dice.randrange(len(held.running)))
        service.loop.run_until_complete(running.__aexit__(None, None, None))
    return len(held.running)


def remember(service: OneService, tenant: str, dice: random.Random) -> Any:
    store = MemoryStore(service.files.get_memory_file(Caller(tenant, dice.choice(PEOPLE))))
    expires = service.world.get_time() + timedelta(minutes=5) if dice.random() < 0.2 else None
    return store.add(f"{tenant} likes {dice.choice(WORDS)}", "c1", 1, service.world.get_time(), expires)


def recall(service: OneService, tenant: str, dice: random.Random) -> Any:
    store = MemoryStore(service.files.get_memory_file(Caller(tenant, dice.choice(PEOPLE))))
    return store.list_memories(service.world.get_time())


def forget(service: OneService, tenant: str, dice: random.Random) -> Any:
    store = MemoryStore(service.files.get_memory_file(Caller(tenant, dice.choice(PEOPLE))))
    return store.forget([dice.randrange(1, 40)])


def import_document(service: OneService, tenant: str, dice: random.Random) -> Any:
    name, key = dice.choice(("handbook", "notes")), f"{dice.choice(WORDS)}.md"
    text = f"# {key}\n\nAt {tenant} the {dice.choice(WORDS)} rule is number {dice.randrange(1000)}.\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    doc_id = hashlib.sha256(f"{tenant}{key}".encode()).hexdigest()[:32]
    [sections] = cut_documents([SourceText(doc_id, text, f"collection/{name}", key, key, "CC0")], 1_500)
    stored = StoredDocument(key, doc_id, key, digest, digest, len(text), len(sections), "", "CC0")
    with open_writer(name, print, service.files.get_collections_folder(tenant)) as writer:
        writer.commit([NewDocument(stored, list(sections))], [doc_id])
        return sorted(document.key for _, document in writer.collection.iterate_documents())


def list_documents(service: OneService, tenant: str, dice: random.Random) -> Any:
    folder = service.files.get_collections_folder(tenant)
    names = list_collections(folder)
    documents = [[each for _, each in open_collection(name, folder).iterate_documents()] for name in names]
    return names, [sorted(each) for each in documents]


def search(service: OneService, tenant: str, dice: random.Random) -> Any:
    knowledge = Knowledge.open(None, None, ["handbook", "notes"], service.files.get_collections_folder(tenant))
    found = knowledge.search(dice.choice(WORDS)) if len(knowledge) else None
    return [(result.section.text, result.collection) for result in found.results] if found else knowledge.notices


def drop_collection(service: OneService, tenant: str, dice: random.Random) -> Any:
    folder = service.files.get_collections_folder(tenant)
    if names := list_collections(folder):
        with open_writer(names[0], print, folder) as writer:
            writer.drop()
    return names


def spell(number: int) -> str:
    """Return the end of an id; the answers of both tenants have the same ids."""
    return "".join("abcdefghij"[int(digit)] for digit in f"{number:024d}")


def answer(service: OneService, tenant: str, dice: random.Random) -> Any:
    caller = authenticate(service, tenant, dice)
    held = service.held[tenant]
    held.n_requests += 1
    service.world.n_answers[tenant] = held.n_requests
    number = spell(held.n_requests)
    question = f"What does {tenant} say about {dice.choice(WORDS)}?"
    request = AnswerRequest(
        f"req_{number}", caller, "chat.completions", "minigpt", messages=(Message.of("user", question),)
    )
    service.journal.begin(request)
    service.journal.observe(request, Decision("flag", ("guard.input.harm",), "a look-alike"))
    outcome = AnswerOutcome("stop", f"{tenant} says {dice.choice(WORDS)}.", 10, 5, 0.5, 0.1)
    service.journal.end(request, outcome).result(30)
    return caller.user


def read_journal(service: OneService, tenant: str, dice: random.Random) -> Any:
    query = select(JOURNAL).where(JOURNAL.c.tenant == tenant).order_by(JOURNAL.c.id.desc()).limit(20)
    with service.database.connect(is_read_only=True) as connection:
        rows = connection.execute(query).mappings().all()
    return [{name: value for name, value in row.items() if name != "policy_hash"} for row in rows]


def give_feedback(service: OneService, tenant: str, dice: random.Random) -> Any:
    """On an answer of this tenant, or on one whose id only the other tenant has."""
    other = TENANTS[1 - TENANTS.index(tenant)]
    given = NewFeedback(
        f"ans_{spell(service.world.n_answers[tenant if dice.random() < 0.9 else other])}",
        dice.choice(("up", "down")),
        comment=f"{tenant} {dice.choice(WORDS)}",
        consent=dice.random() < 0.5,
    )
    made = service.feedback.add(Caller(tenant, dice.choice(PEOPLE), "", dice.choice(("user", "operator"))), given)
    service.held[tenant].feedback.append(made.id)
    return made.question, made.text, made.comment


def review(service: OneService, tenant: str, dice: random.Random) -> Any:
    """Decide about feedback of this tenant, or name one of the other's."""
    whose = tenant if dice.random() < 0.8 else TENANTS[1 - TENANTS.index(tenant)]
    ids = service.held[whose].feedback
    number = ids[dice.randrange(len(ids))] if ids else "fb_none"
    return service.feedback.review(tenant, number, dice.choice(("accepted", "rejected")), "cleo").state


def list_feedback(service: OneService, tenant: str, dice: random.Random) -> Any:
    rows = service.feedback.list_feedback(tenant, limit=10_000)
    return sorted((row.user, row.answer, row.comment, row.state, row.text) for row in rows), service.feedback.count(
        tenant
    )


def learn(service: OneService, tenant: str, dice: random.Random) -> Any:
    caller = Caller(tenant, dice.choice(PEOPLE))
    folder = service.files.get_profile_folders(caller)["log_folder"] / "tutor"
    log = LearnerLog(folder, service.files.get_user_name(caller))
    log.add(service.world.get_time(), dice.choice(("asked", "passed")), dice.choice(WORDS), tenant, ["Leave"])
    return sorted(log.list_done())


def hand_over(service: OneService, tenant: str, dice: random.Random) -> Any:
    caller = Caller(tenant, dice.choice(PEOPLE))
    folder = service.files.get_profile_folders(caller)["handover_folder"]
    write_handover(folder, f"# Handover of {tenant}\n", service.world.get_time())
    return sorted(path.name for path in folder.glob("*.md"))


def erase(service: OneService, tenant: str, dice: random.Random) -> Any:
    """Erase a person: what is left of the others is compared by the operations after it."""
    erasure = erase_person(service.log, service.files, tenant, dice.choice(PEOPLE), service.world.get_time())
    return sorted(erasure.n_rows.items()), len(erasure.files)


def remove_tenant(service: OneService, tenant: str, dice: random.Random) -> Any:
    held = service.held[tenant]
    while held.running:
        finish(service, tenant, dice)
    removal = service.tenants.remove(tenant)
    held.secrets.clear()
    assert not service.files.get_folder(tenant).exists()
    return sorted(removal.n_rows.items()), removal.n_files


Operation = Callable[[OneService, str, random.Random], Any]
OPERATIONS: dict[
    str, tuple[float, Operation]
] = {  # weight: cheap ones and those that meet most of the state are frequent
    "add_key": (3, add_key),
    "revoke_key": (1, revoke_key),
    "rotate_key": (1, rotate_key),
    "name_the_others_key": (2, name_the_others_key),
    "list_keys": (1, list_keys),
    "authenticate": (18, authenticate),
    "admit": (28, admit),
    "finish": (24, finish),
    "remember": (0.8, remember),
    "recall": (0.8, recall),
    "forget": (0.5, forget),
    "import_document": (0.2, import_document),
    "list_documents": (0.6, list_documents),
    "search": (0.15, search),
    "drop_collection": (0.1, drop_collection),
    "answer": (4, answer),
    "read_journal": (2, read_journal),
    "give_feedback": (3, give_feedback),
    "review": (2, review),
    "list_feedback": (1, list_feedback),
    "learn": (4, learn),
    "hand_over": (1, hand_over),
    "erase": (0.1, erase),
    "remove_tenant": (0.05, remove_tenant),
}


@pytest.mark.slow
def test_two_tenants_of_one_service_are_two_services(tmp_path: Path) -> None:
    world, loop = World(), asyncio.new_event_loop()
    shared = OneService(tmp_path / "shared", world, loop)
    apart = {tenant: OneService(tmp_path / tenant, world, loop) for tenant in TENANTS}
    names, weights = list(OPERATIONS), [weight for weight, _ in OPERATIONS.values()]
    choose = random.Random(12)
    n_done, n_refused = dict.fromkeys(names, 0), 0
    try:
        for number in range(N_OPERATIONS):
            world.seconds += choose.expovariate(2.0)
            tenant, [name] = choose.choice(TENANTS), choose.choices(names, weights)
            together = shared.do(name, tenant, random.Random(number))
            alone = apart[tenant].do(name, tenant, random.Random(number))
            assert together == alone, (number, tenant, name)
            n_done[name] += 1
            n_refused += str(together).startswith("(4")
        for tenant in TENANTS:
            for name in ("list_keys", "list_documents", "read_journal", "list_feedback"):
                dice = random.Random(0)
                assert shared.do(name, tenant, dice) == apart[tenant].do(name, tenant, dice)
            assert not verify_tenant(shared.database, shared.log.heads, tenant).problems
    finally:
        for service in (shared, *apart.values()):
            service.close()
        loop.close()
    assert all(n_done.values()), n_done
    assert 500 < n_refused < N_OPERATIONS / 2  # limits and refusals were met, and most operations were done
    for tenant, other in (TENANTS, TENANTS[::-1]):  # and no file of one has a word of the other
        theirs = [path for path in shared.files.get_folder(tenant).rglob("*") if path.is_file()]
        assert theirs
        assert not [path for path in theirs if other.encode() in path.read_bytes()]
