"""The policies that ship keep their table of decisions; a change that breaks a row is found, and a wrong row is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from service.__main__ import main
from service.policy.cedar_authorizer import RESOURCES
from service.policy.content_rules import STRENGTHS
from service.policy.decision_table import check_decisions
from service.policy.policy_files import DEFAULTS, read_policy_files
from service.policy.tenant_policy import TenantPolicy, make_tenant_policy, read_schema
from tests.conftest import ROOT


def load(folder: Path, tenant: str = "") -> TenantPolicy:
    return make_tenant_policy(tenant, read_policy_files(folder).select(tenant))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(DEFAULTS, tmp_path / "policies")
    return tmp_path / "policies"


def test_the_policies_that_ship_keep_their_table() -> None:
    n_rows, failures = check_decisions(load(DEFAULTS))
    assert failures == []
    assert n_rows >= 45


def test_the_table_has_a_permission_and_a_refusal_for_each_action_that_can_do_harm() -> None:
    rows = load(DEFAULTS).decisions
    for action in (
        "answer",
        "use_tool",
        "write_collection",
        "read_memory",
        "read_journal",
        "manage_keys",
        "erase_person",
    ):
        assert {row["expect"] for row in rows if row.get("do") == action} == {"allow", "block"}, action
    assert {row["expect"] for row in rows if "place" in row} >= set(STRENGTHS)


def test_the_schema_knows_the_actions_that_the_code_asks_for() -> None:
    schema = read_schema()
    assert all(action in schema for action in RESOURCES)


@pytest.mark.parametrize("policy_id", ["tainted-window", "other-tenants", "users-answer", "operators-look"])
def test_a_policy_that_is_missing_breaks_a_row(
    folder: Path, policy_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "authorization.cedar"
    parts = path.read_text().split("@id(")
    path.write_text("@id(".join(part for part in parts if not part.startswith(f'"{policy_id}"')))
    assert main(["policy", "check", str(folder)]) == 1
    output = capsys.readouterr()
    assert "do not hold" in output.out
    assert "expected" in output.err


def test_a_threshold_that_is_raised_breaks_a_row(folder: Path) -> None:
    path = folder / "content.yaml"
    path.write_text(path.read_text().replace("block: 0.7", "block: 0.99"))
    _, failures = check_decisions(load(folder))
    assert any("input" in failure and "expected block" in failure for failure in failures)


def test_a_tenant_keeps_the_rows_for_everybody_but_those_that_it_states_otherwise(folder: Path) -> None:
    (folder / "acme").mkdir()
    (folder / "acme" / "authorization.cedar").write_text(
        '@id("acme-locked") forbid(principal, action == Action::"answer_direct", resource);'
    )
    _, failures = check_decisions(load(folder, "acme"))
    assert [failure.partition(":")[0] for failure in failures] == ["decisions.yaml"]
    (folder / "acme" / "decisions.yaml").write_text(
        "- {do: answer_direct, with: {api: chat.completions, ip: 203.0.113.7}, expect: block, by: acme-locked}"
    )
    assert check_decisions(load(folder, "acme"))[1] == []
    assert check_decisions(load(folder))[1] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{do: fly, expect: allow}", "no such action"),
        ("{do: answer}", "expect"),
        ("{do: answer, expect: mask}", "expect"),
        ("{do: answer, expect: allow, wiht: {}}", "wiht"),
        ("{place: nowhere, expect: allow}", "place"),
    ],
)
def test_a_wrong_row_is_refused(folder: Path, row: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "decisions.yaml").write_text(f"- {row}\n")
    assert main(["policy", "check", str(folder)]) == 1
    assert message in capsys.readouterr().err


def test_show_prints_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["hash"] == load(DEFAULTS).hash
    assert "forbid" in shown["cedar"]["tainted-window"]
    assert main(["policy", "show"]) == 0
    assert '@id("tainted-window")' in capsys.readouterr().out


def test_the_examples_of_the_documentation_are_valid(folder: Path) -> None:
    text = (ROOT / "docs" / "policy.md").read_text()
    (folder / "acme").mkdir()
    for name in ("authorization.cedar", "content.yaml"):
        block = text.split(f" POLICIES/acme/{name}")[1].split("\n\n")[0]
        lines = [line.removeprefix("    ") for line in block.splitlines()[1:]]
        (folder / "acme" / name).write_text("\n".join(lines))
    (folder / "acme" / "decisions.yaml").write_text(
        "- {do: answer, with: {ip: 10.1.2.3}, expect: allow}\n"
        "- {do: answer, with: {ip: 192.0.2.1}, expect: block, by: acme-office-only}\n"
        "- {place: input, scores: {advice: 0.65}, expect: block, by: guard.input.advice}\n"
    )
    policy = load(folder, "acme")
    _, failures = check_decisions(policy)
    assert [failure for failure in failures if failure.startswith("acme/")] == []
    assert (policy.rules.storage.messages, policy.rules.limits.requests_per_minute) == ("off", 600)
    assert policy.rules.get_thresholds("input", "harm") is not None
