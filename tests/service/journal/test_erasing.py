"""Erasing a person leaves no byte of the person's texts in any file; nobody else loses anything; the audit chain still verifies."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from assistant.memory.memory_store import MemoryStore
from assistant.profiles.handover import write_handover
from assistant.profiles.learner_log import LearnerLog
from service.__main__ import main
from service.access.caller import Caller
from service.access.key_store import KeyGrant, KeyStore
from service.access.tenant_files import TenantFiles
from service.answers.interfaces import AnswerOutcome
from service.clock import now
from service.database.database import Database
from service.feedback.feedback_tables import FEEDBACK
from service.journal.audit_chain import make_mac
from service.journal.audit_log import verify_audit
from service.journal.erasing import erase_person, measure_person
from service.journal.journal_tables import AUDIT, JOURNAL, PERSONS
from tests.service.conftest import PostgresServer
from tests.service.journal.conftest import OpenJournal, Recorded, make_request, record_answer

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
N_ANSWERS = 8


def list_words(name: str) -> list[str]:
    return [f"{name}question", f"{name}answer", f"{name}memory", f"{name}exercise", f"{name}handover", f"{name}comment"]


def fill(recorded: Recorded, files: TenantFiles, tenant: str, user: str, start: int) -> None:
    """Leave traces of a person everywhere. Every text has a word that names person and place."""
    question, answer, memory, exercise, handover, comment = list_words(f"{tenant}{user.replace(':', '')}")
    for number in range(start, start + N_ANSWERS):
        record_answer(recorded.journal, make_request(number, f"{question} " * 40, tenant, user), f"{answer} " * 40)
    caller = Caller(tenant, user)
    store = MemoryStore(files.get_memory_file(caller))
    for number in range(5):
        store.add(f"my {memory} {number}", "c1", 1, NOON)
    folders = files.get_profile_folders(caller)
    LearnerLog(folders["log_folder"] / "tutor", files.get_user_name(caller)).add(NOON, "asked", exercise, exercise, [])
    write_handover(folders["handover_folder"], handover, NOON)
    texts = dict.fromkeys(
        ("answer", "rating", "reason", "correction", "messages", "text", "titles", "version", "state"), ""
    )
    row = {**texts, "tenant": tenant, "id": f"fb_{start}", "user": user, "time": NOON, "comment": comment * 50}
    row |= {"consent": False, "reviewer": ""}
    with recorded.log.database.connect() as connection:
        connection.execute(insert(FEEDBACK).values(row))


def find_words(folder: Path, words: Iterable[str]) -> list[str]:
    """Return which words are in the raw bytes of the files below a folder, also as UTF-16."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += [
                f"{path.name}: {word}" for word in words if word.encode() in data or word.encode("utf-16-le") in data
            ]
    return found


def read_folder(database: Database, state: Path, request: pytest.FixtureRequest) -> list[Path]:
    if database.is_sqlite:
        return [state]
    server: PostgresServer = request.getfixturevalue("postgres")
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("CHECKPOINT")
    return [state, server.folder / "data" / "base"]


def test_no_byte_of_a_person_is_left(
    database: Database, open_one: OpenJournal, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recorded, files = open_one(database), TenantFiles(tmp_path)
    persons = [("acme", "ada"), ("acme", "bob"), ("globex", "ada"), ("acme", "ada:guest"), ("acme", "adam")]
    for at, (tenant, user) in enumerate(persons):
        fill(recorded, files, tenant, user, at * N_ANSWERS)
    gone = [*list_words("acmeada"), *list_words("acmeadaguest")]
    kept = [*list_words("acmebob"), *list_words("globexada"), *list_words("acmeadam")]
    folders = read_folder(database, tmp_path, request)
    assert {hit.split(": ")[1] for folder in folders for hit in find_words(folder, gone)} == set(gone)

    measured = measure_person(database, files, "acme", "ada")
    erasure = erase_person(recorded.log, files, "acme", "ada", now())
    assert erasure == measured
    assert erasure.users == ("ada", "ada:guest")
    assert (erasure.n_rows["journal"], erasure.n_rows["feedback"], len(erasure.files) >= 6) == (2 * N_ANSWERS, 2, True)

    folders = read_folder(database, tmp_path, request)
    assert [hit for folder in folders for hit in find_words(folder, gone)] == []
    assert {hit.split(": ")[1] for folder in folders for hit in find_words(folder, kept)} == set(kept)
    reports = verify_audit(database, recorded.log.heads)
    assert [report.problems for report in reports] == [()] * len(reports)
    again = erase_person(recorded.log, files, "acme", "ada", now())
    assert (sum(again.n_rows.values()), again.files) == (0, ())
    assert MemoryStore(files.get_memory_file(Caller("acme", "bob"))).list_memories(NOON)


def test_after_the_key_is_destroyed_no_record_can_be_matched_with_a_text(
    database: Database, open_one: OpenJournal, tmp_path: Path
) -> None:
    recorded = open_one(database)
    record_answer(recorded.journal, make_request(1, "zebra"), "a striped horse")
    with database.connect(is_read_only=True) as connection:
        person = connection.execute(select(PERSONS)).one()
    erase_person(recorded.log, TenantFiles(tmp_path), "acme", "ada", now())
    record_answer(recorded.journal, make_request(2, "zebra"), "a striped horse")
    with database.connect(is_read_only=True) as connection:
        back = connection.execute(select(PERSONS)).one()
        records = list(connection.scalars(select(AUDIT.c.record).where(AUDIT.c.tenant == "acme").order_by(AUDIT.c.seq)))
    assert (back.person == person.person, back.key == person.key) == (False, False)
    assert "key_1" not in "".join(records)  # the id of a key leads to its owner
    mac = make_mac(bytes(person.key), "a striped horse")
    assert [mac in record for record in records] == [False, False, True, False, False, False, False]
    assert '"what":"person.erased"' in records[3]


def test_an_answer_that_began_before_its_person_was_erased_is_stored_without_person_and_texts(
    database: Database, open_one: OpenJournal, tmp_path: Path
) -> None:
    recorded, files = open_one(database), TenantFiles(tmp_path)
    record_answer(recorded.journal, make_request(0))
    begun, later = make_request(1, "zebraquestion"), make_request(2, "later")
    recorded.journal.begin(begun)
    erase_person(recorded.log, files, "acme", "ada", now())
    record_answer(recorded.journal, later, "later")
    recorded.journal.end(begun, AnswerOutcome("stop", "zebraanswer", 1, 2)).result(30)
    with database.connect(is_read_only=True) as connection:
        rows = {row.id: row for row in connection.execute(select(JOURNAL))}
    assert (rows[begun.id].user, rows[begun.id].messages, rows[begun.id].answer) == ("", "", "")
    assert rows[begun.id].n_tokens == 2
    assert (rows[later.id].user, rows[later.id].answer) == ("ada", "later")


def test_the_command_erases_while_the_service_reads_and_writes(
    open_one: OpenJournal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'service.sqlite'}"
    database = Database.open(url)
    recorded, files = open_one(database), TenantFiles(tmp_path)
    fill(recorded, files, "acme", "ada", 0)
    fill(recorded, files, "acme", "bob", 100)
    flags = ["--user", "ada", "--tenant", "acme", "--state", str(tmp_path), "--database", url]
    assert main(["erase", "--dry-run", *flags]) == 0
    assert f"{N_ANSWERS} of journal" in capsys.readouterr().out
    assert find_words(tmp_path, list_words("acmeada"))
    reader = sqlite3.connect(tmp_path / "service.sqlite")
    reader.execute("BEGIN").execute("SELECT count(*) FROM journal").fetchall()
    reader.rollback()
    assert main(["erase", *flags]) == 0
    record_answer(recorded.journal, make_request(500, user="bob"))
    assert find_words(tmp_path, list_words("acmeada")) == []
    assert set(list_words("acmebob")) <= {hit.split(": ")[1] for hit in find_words(tmp_path, list_words("acmebob"))}
    reader.close()
    assert main(["audit", "verify", "--state", str(tmp_path), "--database", url]) == 0
    database.close()


def test_keys_stay_unless_asked(tmp_path: Path, open_one: OpenJournal) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    recorded, files, keys = open_one(database), TenantFiles(tmp_path), KeyStore(database)
    secrets = {user: keys.add(KeyGrant("local", user, "user"))[1] for user in ("ada", "bob")}
    erase_person(recorded.log, files, "local", "ada", now())
    assert [keys.find(secret) is not None for secret in secrets.values()] == [True, True]
    erasure = erase_person(recorded.log, files, "local", "ada", now(), revokes_keys=True)
    assert erasure.n_keys == 1
    assert [keys.find(secret) is not None for secret in secrets.values()] == [False, True]
    assert "ada" not in {key.grant.user for key in keys.list_keys("local")}
    database.close()


@pytest.mark.skipif(os.getuid() == 0 and shutil.which("chattr") is None, reason="needs a file that can't be deleted")
def test_a_file_that_cannot_be_deleted_is_named_and_the_command_can_be_given_again(
    tmp_path: Path, open_one: OpenJournal
) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    recorded, files = open_one(database), TenantFiles(tmp_path)
    fill(recorded, files, "acme", "ada", 0)
    path = files.get_memory_file(Caller("acme", "ada"))
    lock, unlock = (["chattr", "+i", str(path)], ["chattr", "-i", str(path)])
    if subprocess.run(lock, capture_output=True, check=False).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(ValueError, match="can't be deleted"):
            erase_person(recorded.log, files, "acme", "ada", now())
    finally:
        subprocess.run(unlock, check=True)
    erase_person(recorded.log, files, "acme", "ada", now())
    assert find_words(tmp_path, list_words("acmeada")) == []
    database.close()


def test_a_wrong_tenant_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'service.sqlite'}"
    flags = ["--tenant", "../etc", "--state", str(tmp_path), "--database", url]
    assert main(["erase", "--user", "ada", *flags]) == 1
    assert "tenant" in capsys.readouterr().err
