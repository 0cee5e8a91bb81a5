"""What the tests of the journal share: a journal over a real database, answers to record, and a masker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from assistant.conversation.events import Message
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, ModelDescription
from service.database.database import Database
from service.journal.answer_journal import AnswerJournal, open_journal
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog
from service.policy.policy_store import PolicyStore

MODEL = ModelDescription("minigpt", "7", "sft", 512, 8192, 2_400_000, "float32", {"data": "d1", "code": "c1"})
POLICY = "storage: {messages: %s}\n"


class WordMasker:
    """Masks one word."""

    def mask(self, text: str, kinds: Sequence[str]) -> tuple[str, Mapping[str, int]]:
        return text.replace("hunter2", "[password]"), {"password": text.count("hunter2")}


class Recorded(NamedTuple):
    """A journal with its parts."""

    journal: AnswerJournal
    log: AuditLog
    state: Path


OpenJournal = Callable[..., Recorded]


def make_request(number: int, text: str = "hello", tenant: str = "acme", user: str = "ada") -> AnswerRequest:
    caller = Caller(tenant, user, "key_1", "user", frozenset({"chat"}))
    digits = "".join("abcdefghijklmnop"[int(digit, 16)] for digit in f"{number:024x}")
    return AnswerRequest(f"req_{digits}", caller, "chat.completions", "minigpt", messages=(Message.of("user", text),))


def record_answer(journal: AnswerJournal, request: AnswerRequest, answer: str = "an answer") -> None:
    """Record an answer with one decision, and wait until it is durable."""
    journal.begin(request)
    journal.observe(request, Decision("allow", ("cedar.users-answer",), policy_hash="p1"))
    journal.end(request, AnswerOutcome("stop", answer, 12, 34, 0.5, 0.1)).result(30)


@pytest.fixture
def open_one(tmp_path: Path) -> Iterator[OpenJournal]:
    """Return a function that opens a journal over a database, with another rule of storage if asked for."""
    opened: list[AnswerJournal] = []

    def open_with(database: Database, messages: str = "full", **options: object) -> Recorded:
        policies = tmp_path / f"policies-{messages}"
        policies.mkdir(exist_ok=True)
        text = (PolicyStore().folder / "authorization.cedar").read_text()
        (policies / "authorization.cedar").write_text(text)
        (policies / "content.yaml").write_text(POLICY % f'"{messages}"')
        masker = options.get("masker", WordMasker())
        journal = open_journal(database, tmp_path, PolicyStore(policies), lambda: MODEL, masker)  # type: ignore[arg-type]
        opened.append(journal)
        return Recorded(journal, AuditLog(database, AuditHeads(tmp_path / "audit")), tmp_path)

    yield open_with
    for journal in opened:
        journal.writer.close()
