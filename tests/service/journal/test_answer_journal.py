"""The journal: what is stored of an answer under each rule, durable when it is acknowledged, and never silently lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from assistant.conversation.events import Citation, TextPiece, ToolCall
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision
from service.database.database import Database
from service.journal.answer_trail import find_answer
from service.journal.audit_chain import make_mac
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import verify_audit
from service.journal.journal_tables import AUDIT, JOURNAL, PERSONS
from service.journal.journal_writer import JournalWriter
from service.service_error import ServiceError
from service.tooling.guarded_tools import ToolUse
from tests.conftest import ROOT
from tests.service.conftest import PostgresServer
from tests.service.journal.conftest import OpenJournal, make_request, record_answer

CITATION = Citation(
    "doc1", "numpy.sum", ("Parameters",), 3, 9, 0, 1, 1, "https://x.invalid", "BSD", "ab" * 32, "axis: int"
)


def read_rows(database: Database) -> list[dict[str, Any]]:
    with database.connect(is_read_only=True) as connection:
        return [dict(row) for row in connection.execute(select(JOURNAL).order_by(JOURNAL.c.id)).mappings()]


def read_records(database: Database) -> list[dict[str, Any]]:
    with database.connect(is_read_only=True) as connection:
        return [json.loads(record) for record in connection.scalars(select(AUDIT.c.record).order_by(AUDIT.c.seq))]


def test_a_row_has_all_that_explains_the_answer(database: Database, open_one: OpenJournal) -> None:
    journal = open_one(database).journal
    request = make_request(1, "How do I sum?")
    journal.begin(request)
    for event in (
        Decision(
            "flag", ("guard.input.harm.flag>=0.3",), "harm 0.31 reaches 0.3", scores={"harm": 0.31}, policy_hash="p1"
        ),
        TextPiece("an "),
        ToolCall("call_1", "add", {"a": 1, "b": [2]}),
        ToolUse(request.caller, "search_docs", "sum", "ran", ("cedar.users-use-tools",), tainted_by=("a page",)),
        CITATION,
    ):
        journal.observe(request, event)
    journal.end(request, AnswerOutcome("stop", "an answer", 12, 34, 0.5, 0.1)).result(30)
    with database.connect(is_read_only=True) as connection:
        row = find_answer(connection, request.id.replace("req_", "ans_"))
    assert (row["user"], row["key_id"], row["version"], row["reason"]) == ("ada", "key_1", "7", "stop")
    assert row["lineage"] == {"data": "d1", "code": "c1"}
    assert row["messages"] == [{"role": "user", "text": "How do I sum?"}]
    assert row["answer"] == "an answer"
    assert (row["n_prompt_tokens"], row["n_tokens"], row["seconds"], row["first_token_seconds"]) == (12, 34, 0.5, 0.1)
    assert [decision["scores"] for decision in row["decisions"]] == [{"harm": 0.31}]
    assert [citation["sha256"] for citation in row["citations"]] == ["ab" * 32]
    assert [(tool["tool"], tool["tainted_by"]) for tool in row["tools"]] == [("search_docs", ["a page"])]
    assert [record["what"] for record in read_records(database) if "on" in record] == [
        "answer.begin",
        "answer.decision",
        "tool.call",
        "answer.end",
    ]


@pytest.mark.parametrize(
    ("rule", "has_word", "has_secret"), [("full", True, True), ("masked", True, False), ("off", False, False)]
)
def test_texts_are_stored_as_the_policy_says(
    database: Database, open_one: OpenJournal, rule: str, has_word: bool, has_secret: bool
) -> None:
    journal = open_one(database, rule).journal
    request = make_request(1, "My zebra has the password hunter2")
    journal.begin(request)
    journal.observe(request, ToolCall.of("search_docs", "zebra hunter2"))
    journal.end(request, AnswerOutcome("stop", "A zebra? hunter2!")).result(30)
    [row] = read_rows(database)
    stored = json.dumps(row, default=str)
    assert (row["storage"], "zebra" in stored, "hunter2" in stored) == (rule, has_word, has_secret)


def test_messages_that_nothing_can_mask_are_not_stored(database: Database, open_one: OpenJournal) -> None:
    journal = open_one(database, "masked", masker=None).journal
    record_answer(journal, make_request(1, "hunter2"), "hunter2")
    [row] = read_rows(database)
    assert (row["storage"], row["messages"], row["answer"]) == ("off", "", "")


def test_the_audit_log_has_no_text_and_no_name_and_proves_the_text_with_the_key(
    database: Database, open_one: OpenJournal
) -> None:
    journal = open_one(database).journal
    record_answer(journal, make_request(1, "zebra", user="margaret.hamilton"), "a striped horse")
    records = read_records(database)
    text = json.dumps(records)
    assert not [word for word in ("zebra", "striped", "margaret", "hamilton") if word in text]
    with database.connect(is_read_only=True) as connection:
        person = connection.execute(select(PERSONS)).one()
    begin, end = records[-3], records[-1]
    assert {begin["who"], end["who"]} == {person.person}
    assert end["mac"] == make_mac(bytes(person.key), "a striped horse")
    assert begin["mac"] == make_mac(bytes(person.key), '[null,[["user","zebra"]]]')


def test_hostile_texts_and_names_are_stored_as_texts(database: Database, open_one: OpenJournal) -> None:
    journal = open_one(database).journal
    hostile = [
        "nul \0",
        "lone \ud800",
        "'; DROP TABLE journal; --",
        "\x1b[2J",
        "😀" * 1000,
        "x" * 300_000,
        '{"a": [',
        "",
    ]
    for number, text in enumerate(hostile):
        record_answer(journal, make_request(number, text, user=text[:200]), text)
    rows = read_rows(database)
    assert len(rows) == len(hostile)
    assert max(len(row["answer"]) for row in rows) < 210_000
    assert all(not report.problems for report in verify_audit(database, open_one(database).log.heads))


def test_a_thousand_answers_at_once_are_all_stored(database: Database, open_one: OpenJournal) -> None:
    journal = open_one(database).journal
    futures: list[Future[None]] = []
    for number in range(1000):
        request = make_request(number, "hello", ("acme", "globex")[number % 2], f"user{number % 7}")
        journal.begin(request)
        futures.append(journal.end(request, AnswerOutcome("stop", str(number))))
    for future in futures:
        future.result(60)
    assert len(read_rows(database)) == 1000
    reports = verify_audit(database, open_one(database).log.heads)
    assert [(report.tenant, report.problems) for report in reports] == [("acme", ()), ("globex", ()), ("local", ())]
    with database.connect(is_read_only=True) as connection:
        assert connection.scalar(select(func.count()).select_from(PERSONS)) == 14


def test_an_id_that_is_used_twice_fails_alone(database: Database, open_one: OpenJournal) -> None:
    journal = open_one(database).journal
    futures = []
    for number in (1, 2, 1, 3):
        request = make_request(number)
        journal.begin(request)
        futures.append(journal.end(request, AnswerOutcome("stop", "x")))
    errors = [future.exception(30) for future in futures]
    assert [isinstance(error, ServiceError) for error in errors] == [False, False, True, False]
    assert len(read_rows(database)) == 3


def test_an_answer_that_nobody_waits_for_is_stored_all_the_same(database: Database, open_one: OpenJournal) -> None:
    journal = open_one(database).journal
    request = make_request(1)
    future = journal.end(request, AnswerOutcome("cancelled", "half an an"))
    assert not future.cancel()
    future.result(30)
    assert read_rows(database)[0]["reason"] == "cancelled"


def test_a_full_disk_is_told_and_ends_by_itself(
    tmp_path: Path, open_one: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.journal.journal_writer.RETRY_SECONDS", 0.05)
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}", pool_size=1)
    journal = open_one(database).journal
    record_answer(journal, make_request(0))
    limit(database, 1)
    errors: list[BaseException | None] = []
    for number in range(1, 40):
        request = make_request(number, "x" * 4000)
        errors.append(journal.end(request, AnswerOutcome("stop", "y" * 4000)).exception(30))
    failed = [error for error in errors if error is not None]
    assert failed
    assert all(isinstance(error, ServiceError) and error.status == 503 for error in failed)
    assert "full" in journal.writer.problem
    with pytest.raises(ServiceError, match="full"):
        journal.writer.check()
    limit(database, 1_000_000)
    end = time.monotonic() + 30
    while journal.writer.problem:  # found out without any request
        assert time.monotonic() < end
        time.sleep(0.01)
    journal.writer.check()
    record_answer(journal, make_request(99))
    assert len(read_rows(database)) == 2 + len(errors) - len(failed)  # what was acknowledged, and nothing else
    assert "journal.recovered" in {record["what"] for record in read_records(database)}
    database.close()


def limit(database: Database, n_pages: int) -> None:
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {n_pages}")


def test_a_full_queue_fails_at_once(tmp_path: Path, open_one: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    recorded = open_one(database)
    writer = JournalWriter(recorded.log, max_queued=5)
    monkeypatch.setattr(recorded.journal, "writer", writer)
    with recorded.log.heads.lock(["acme"]):  # nobody can write
        futures = [recorded.journal.end(make_request(number), AnswerOutcome("stop", "x")) for number in range(20)]
        failed = [future for future in futures if future.done()]
        assert len(failed) >= 20 - 5 - 1 - 5
        assert all(isinstance(future.exception(), ServiceError) for future in failed)
    waiting = [future for future in futures if future not in failed]
    for future in waiting:
        future.result(30)
    writer.close()
    assert len(read_rows(database)) == len(waiting)
    with pytest.raises(ServiceError, match="closed"):
        recorded.journal.end(make_request(50), AnswerOutcome("stop", "x")).result(1)
    database.close()


def test_drafts_whose_end_never_comes_are_bounded(
    tmp_path: Path, open_one: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.journal.answer_journal.MAX_DRAFTS", 10)
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    journal = open_one(database).journal
    for number in range(30):
        journal.begin(make_request(number))
    record_answer(journal, make_request(0))
    assert len(journal._drafts) <= 10  # pyright: ignore[reportPrivateUsage]
    database.close()


def test_calls_for_the_client_are_kept_with_any_arguments_and_repeated_decisions_are_counted(
    database: Database, open_one: OpenJournal
) -> None:
    journal, request = open_one(database).journal, make_request(1)
    journal.begin(request)
    journal.observe(request, ToolCall("call_1", "add", {"a": 1, "b": [2]}))
    for score in (0.4, 0.4, 0.5, 0.4):
        journal.observe(request, Decision("flag", ("r",), scores={"harm": score}))
    journal.end(request, AnswerOutcome("tool_calls")).result(30)
    with database.connect(is_read_only=True) as connection:
        row = find_answer(connection, request.id)
    assert row["tools"] == [{"tool": "add", "argument": '{"a":1,"b":[2]}'}]
    assert [(decision["scores"]["harm"], decision["n"]) for decision in row["decisions"]] == [(0.4, 3), (0.5, 1)]
    assert [record.get("n") for record in read_records(database) if record["what"] == "answer.decision"] == [3, None]


def test_policies_and_their_changes_are_recorded(tmp_path: Path, open_one: OpenJournal) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    journal = open_one(database).journal
    policies = journal._policies  # pyright: ignore[reportPrivateUsage]
    (policies.folder / "content.yaml").write_text("storage: {messages: off, retention_days: 3}")
    policies.refresh()
    (policies.folder / "content.yaml").write_text("storage: 3")
    policies.refresh()
    journal.record(Caller("acme", "root"), "key.added", "key_9", about="ada", details={"role": "user"}).result(30)
    records = read_records(database)
    kinds = [record["what"] for record in records]
    assert sorted(kinds) == ["key.added", "policy.changed", "policy.loaded", "policy.refused"]
    added = records[kinds.index("key.added")]
    assert (added["on"], added["role"]) == ("key_9", "user")
    assert "about" not in added  # the key's own row names its owner
    journal.record(Caller("acme", "root"), "feedback.reviewed", "fb_1", about="ada").result(30)
    [reviewed] = [record for record in read_records(database) if record["what"] == "feedback.reviewed"]
    assert (reviewed["who"], reviewed["who"] != reviewed["about"]) == (added["who"], True)
    database.close()


WRITER = """
import sys
import threading
from pathlib import Path
from service.database.database import Database
from service.answers.interfaces import AnswerOutcome
from service.journal.answer_journal import open_journal
from service.policy.policy_store import PolicyStore
from tests.service.journal.conftest import MODEL, WordMasker, make_request
state = Path(sys.argv[1])
journal = open_journal(Database.open(f"sqlite:///{state / 'service.sqlite'}"), state, PolicyStore(), lambda: MODEL, WordMasker())
number = int(sys.argv[2])
while True:
    futures = []
    for _ in range(8):
        number += 1
        request = make_request(number)
        journal.begin(request)
        futures.append((request.id, journal.end(request, AnswerOutcome("stop", "x" * 500))))
    for name, future in futures:
        future.result()
        print(name, flush=True)
"""


@pytest.mark.parametrize("n_lines", [3, 40])
def test_kill_9_loses_no_acknowledged_answer(tmp_path: Path, n_lines: int) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    names = [process.stdout.readline().strip() for _ in range(n_lines)]
    process.send_signal(signal.SIGKILL)
    names += process.stdout.read().split()
    process.wait()
    process.stdout.close()
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    stored = {row["id"] for row in read_rows(database)}
    assert {name for name in names if len(name) == 28} <= stored  # the last line may be half a name
    assert [report.problems for report in verify_audit(database, AuditHeads(tmp_path / "audit"))] == [(), ()]
    ended = {record["on"] for record in read_records(database) if record["what"] == "answer.end"}
    assert ended == stored  # a row and its records are written together
    database.close()


def test_a_completion_has_its_prompt_in_the_row(database: Database, open_one: OpenJournal) -> None:
    journal = open_one(database).journal
    request = AnswerRequest(
        "req_" + "a" * 24, Caller("acme", "ada"), "completions", "minigpt", prompt="Once", is_direct=True
    )
    record_answer(journal, request)
    [row] = read_rows(database)
    assert (json.loads(row["messages"]), row["mode"]) == ([{"role": "prompt", "text": "Once"}], "direct")


def test_a_store_that_dies_and_comes_back_loses_nothing_that_was_acknowledged(
    postgres: PostgresServer, open_one: OpenJournal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.journal.journal_writer.RETRY_SECONDS", 0.1)
    database = Database.open(postgres.make_database())
    journal = open_one(database).journal
    acknowledged: set[str] = set()
    failures: list[BaseException] = []

    def answer(numbers: range) -> None:
        requests = [make_request(number) for number in numbers]
        futures = [journal.end(request, AnswerOutcome("stop", "x")) for request in requests]
        for request, future in zip(requests, futures, strict=True):
            error = future.exception(60)
            failures.append(error) if error is not None else acknowledged.add(request.id)

    answer(range(20))
    thread = threading.Thread(target=answer, args=(range(20, 400),))
    thread.start()
    postgres.stop()
    thread.join(60)
    answer(range(400, 405))
    assert failures
    assert all(isinstance(error, ServiceError) and error.status == 503 for error in failures)
    postgres.start()
    end = time.monotonic() + 60
    while journal.writer.problem:
        assert time.monotonic() < end
        time.sleep(0.05)
    answer(range(500, 505))
    assert acknowledged >= {make_request(number).id for number in (*range(20), *range(500, 505))}
    assert acknowledged <= {row["id"] for row in read_rows(database)}
    reports = verify_audit(database, open_one(database).log.heads)
    assert [report.problems for report in reports] == [()] * len(reports)
    database.close()


def test_a_head_that_cannot_be_written_fails_the_answer_and_stores_nothing(
    tmp_path: Path, open_one: OpenJournal
) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    journal = open_one(database).journal
    record_answer(journal, make_request(1))
    shutil.move(tmp_path / "audit", tmp_path / "elsewhere")
    (tmp_path / "audit").write_text("a file in the place of the folder")
    error = journal.end(make_request(2), AnswerOutcome("stop", "x")).exception(30)
    assert isinstance(error, ServiceError)
    assert (error.status, error.code) == (503, "audit_unwritable")
    (tmp_path / "audit").unlink()
    shutil.move(tmp_path / "elsewhere", tmp_path / "audit")
    record_answer(journal, make_request(3))
    assert [row["id"] for row in read_rows(database)] == [make_request(number).id for number in (1, 3)]
    database.close()


def test_what_fails_while_an_entry_is_made_is_told_and_stops_nobody_else(
    tmp_path: Path, open_one: OpenJournal, caplog: pytest.LogCaptureFixture
) -> None:
    class BadMasker:
        def mask(self, text: str, kinds: Sequence[str]) -> tuple[str, Mapping[str, int]]:
            if "bad" in text:
                raise RuntimeError("the secret of the inside")
            return text, {}

    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    journal = open_one(database, "masked", masker=BadMasker()).journal
    futures = [
        journal.end(make_request(at, text), AnswerOutcome("stop", "x")) for at, text in enumerate(("a", "bad", "b"))
    ]
    errors = [future.exception(30) for future in futures]
    assert [type(error) for error in errors] == [type(None), ServiceError, type(None)]
    assert "secret" not in str(errors[1])
    assert len(read_rows(database)) == 2
    database.close()
