"""Rows go when the tenant's policy says so, from the files too, and not because a clock has jumped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from service.database.database import Database
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog, verify_audit
from service.journal.journal_tables import AUDIT, ERASURES, JOURNAL
from service.journal.retention import SWEEP_SECONDS, RetentionSweep, sweep_journal
from service.policy.policy_files import DEFAULTS
from service.policy.policy_store import PolicyStore

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def policies(tmp_path: Path) -> PolicyStore:
    folder = tmp_path / "policies"
    (folder / "acme").mkdir(parents=True)
    (folder / "authorization.cedar").write_bytes((DEFAULTS / "authorization.cedar").read_bytes())
    (folder / "content.yaml").write_text("storage: {retention_days: 30}")
    (folder / "acme" / "content.yaml").write_text("storage: {retention_days: 0.5}")
    return PolicyStore(folder)


@pytest.fixture
def log(database: Database, tmp_path: Path) -> AuditLog:
    return AuditLog(database, AuditHeads(tmp_path / "audit"))


def add_row(log: AuditLog, tenant: str, name: str, time: datetime) -> None:
    row = {column.name: "" for column in JOURNAL.c if column.name not in ("n_prompt_tokens", "n_tokens")}
    row |= {"tenant": tenant, "id": name, "answer": f"text-of-{name} " * 30}
    numbers = {"time": time, "seconds": 0.0, "first_token_seconds": 0.0, "n_tokens": 0, "n_prompt_tokens": 0}
    with log.database.connect() as connection:
        connection.execute(insert(JOURNAL).values({**row, **numbers}))


def list_ids(log: AuditLog) -> set[str]:
    with log.database.connect(is_read_only=True) as connection:
        return set(connection.scalars(select(JOURNAL.c.id)))


def test_each_tenant_keeps_rows_as_long_as_its_policy_says(
    log: AuditLog, policies: PolicyStore, tmp_path: Path
) -> None:
    for tenant in ("acme", "globex"):
        for days in (0.4, 0.6, 29, 31):
            add_row(log, tenant, f"{tenant}-{days}", NOON - timedelta(days=days))
    assert sweep_journal(log, policies, NOON) == {"acme": 3, "globex": 1}
    assert list_ids(log) == {"acme-0.4", "globex-0.4", "globex-0.6", "globex-29"}
    assert sweep_journal(log, policies, NOON) == {}
    reports = verify_audit(log.database, log.heads)
    assert [(report.tenant, report.n_rows, report.problems) for report in reports] == [
        ("acme", 1, ()),
        ("globex", 1, ()),
    ]
    with log.database.connect(is_read_only=True) as connection:
        assert all('"what":"journal.swept"' in record for record in connection.scalars(select(AUDIT.c.record)))
    if log.database.is_sqlite:
        data = b"".join(path.read_bytes() for path in (tmp_path / "service").iterdir())
        assert [b"text-of-acme-0.6" in data, b"text-of-acme-0.4" in data] == [False, True]


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400)])
def test_a_clock_that_jumps_deletes_nothing_until_it_is_right_again(
    log: AuditLog, policies: PolicyStore, jump: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    add_row(log, "acme", "young", NOON - timedelta(hours=1))
    wall, passed = [NOON], [0.0]
    sweep = RetentionSweep(log, policies, lambda: wall[0], lambda: passed[0])
    sweep()
    wall[0] += jump
    passed[0] += SWEEP_SECONDS
    sweep()
    assert list_ids(log) == {"young"}
    assert "jumped" in caplog.text
    wall[0], passed[0] = NOON + timedelta(days=1), 86_400.0
    sweep()
    assert list_ids(log) == set()


def test_sweeps_are_rare_and_an_invalid_policy_deletes_nothing(log: AuditLog, policies: PolicyStore) -> None:
    passed = [0.0]
    sweep = RetentionSweep(log, policies, lambda: NOON, lambda: passed[0])
    sweep()
    add_row(log, "acme", "old", NOON - timedelta(days=9))
    passed[0] = SWEEP_SECONDS - 1
    sweep()
    assert list_ids(log) == {"old"}
    (policies.folder / "acme" / "content.yaml").write_text("storage: 3")
    broken = PolicyStore(policies.folder)
    assert sweep_journal(log, broken, NOON) == {}
    assert list_ids(log) == {"old"}


def test_digests_of_erased_persons_go_after_two_days(log: AuditLog, policies: PolicyStore) -> None:
    with log.database.connect() as connection:
        for days in (1, 3):
            values = {"tenant": "acme", "digest": str(days), "time": NOON - timedelta(days=days)}
            connection.execute(insert(ERASURES).values(values))
    sweep_journal(log, policies, NOON)
    with log.database.connect(is_read_only=True) as connection:
        assert list(connection.scalars(select(ERASURES.c.digest))) == ["1"]


def test_many_rows_go_in_chunks(log: AuditLog, policies: PolicyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.journal.retention.CHUNK", 4)
    for number in range(10):
        add_row(log, "acme", f"old{number}", NOON - timedelta(days=9, seconds=number))
    sweep = RetentionSweep(log, policies, lambda: NOON, lambda: 0.0)
    left: list[int] = []
    for _ in range(4):
        sweep()
        left.append(len(list_ids(log)))
    assert left == [6, 2, 0, 0]
