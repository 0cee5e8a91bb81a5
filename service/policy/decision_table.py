"""A table of decisions that must hold: who may do what, and what happens to texts with which scores. `policy check` runs it.

    - {who: {role: user}, do: use_tool, what: run_code, with: {is_tainted: true, runs: true}, expect: block, by: tainted-window}
    - {place: input, scores: {harm: 0.95}, expect: block}
    - {place: output, personal: {key: 1}, expect: mask}

In: the rows of decisions.yaml and the policy. Out: a line for each row that does not hold, with what was decided and why.
A tenant's policy must keep the rows that hold for everybody, too, except those that its own rows repeat with another outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.access.caller import Caller, Role
from service.answers.interfaces import Action, Decision, Place
from service.policy.cedar_authorizer import RESOURCES, authorize_by
from service.policy.content_checker import check_text
from service.policy.tenant_policy import TenantPolicy

ANY_TENANT = "acme"  # of callers in rows for everybody


class _Who(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Role = "user"
    user: str = "ada"
    tenant: str = ""
    scopes: tuple[str, ...] = ("*",)
    has_key: bool = True


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    file: str
    expect: Action
    by: str = ""


class _AccessRow(_Row):
    who: _Who = _Who()
    do: str
    what: str = ""
    facts: dict[str, Any] = Field(default={}, alias="with")
    expect: Literal["allow", "block"]  # type: ignore[assignment]


class _ContentRow(_Row):
    place: Place
    scores: dict[str, float] = {}
    personal: dict[str, int] = {}


@dataclass(frozen=True)
class _GivenScores:
    """A guard and a masker that find what a row gives."""

    scores: Mapping[str, float]
    personal: Mapping[str, int]

    def score(self, texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
        return {name: [score] * len(texts) for name, score in self.scores.items()}

    def mask(self, text: str, kinds: Sequence[str]) -> tuple[str, Mapping[str, int]]:
        counts = {kind: n for kind, n in self.personal.items() if kind in kinds}
        return ("[removed]" if counts else text), counts


def check_decisions(policy: TenantPolicy) -> tuple[int, list[str]]:
    """Return how many rows were checked, and what does not hold.

    Raises: ValueError for a row that is none.
    """
    rows: dict[str, _AccessRow | _ContentRow] = {}
    for values in policy.decisions:
        row = _parse(values)
        key = row.model_dump_json(exclude={"file", "expect", "by"})
        if key not in rows or "/" in row.file:  # a tenant's row replaces the one for everybody
            rows[key] = row
    failures = [failure for row in rows.values() if (failure := _check(policy, row))]
    return len(rows), failures


def _parse(values: dict[str, Any]) -> _AccessRow | _ContentRow:
    kind = _ContentRow if "place" in values else _AccessRow
    try:
        row = kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where, found = ".".join(map(str, problem["loc"])), repr(problem["input"])[:80]
        raise ValueError(f"{values.get('file')}: {where}: {problem['msg']}; found {found}; correct it.") from error
    if isinstance(row, _AccessRow) and row.do not in RESOURCES:
        raise ValueError(f"{row.file}: do: no such action; found {row.do[:80]!r}; use one of {', '.join(RESOURCES)}.")
    return row


def _check(policy: TenantPolicy, row: _AccessRow | _ContentRow) -> str:
    """Return what is wrong with a decision; empty if it is as expected."""
    if isinstance(row, _AccessRow):
        decision, asked = _authorize(policy, row), f"{row.who.role} {row.do} {row.what}".strip()
    else:
        given = _GivenScores(row.scores, row.personal)
        decision = check_text(policy.rules, row.place, "a text", given, given)
        asked = f"{row.place} {dict(row.scores) or dict(row.personal)}"
    is_named = not row.by or any(row.by in rule for rule in decision.rules)
    if decision.action == row.expect and is_named:
        return ""
    rules = ", ".join(decision.rules) or "no rule"
    wanted = row.expect + (f" by {row.by}" if row.by else "")
    return f"{row.file}: {asked}: expected {wanted}; found {decision.action} by {rules}"


def _authorize(policy: TenantPolicy, row: _AccessRow) -> Decision:
    tenant = row.who.tenant or policy.tenant or ANY_TENANT
    caller = Caller(
        tenant, row.who.user, "key_table" if row.who.has_key else "", row.who.role, frozenset(row.who.scopes)
    )
    return authorize_by(policy, caller, row.do, row.what, row.facts)
