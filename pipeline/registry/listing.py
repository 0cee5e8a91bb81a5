"""Tables of the registry for the terminal: the gate's checks, and all versions. In: plain values. Out: rich tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.registry.gate import Verdict
from pipeline.registry.promotion import Store

PIPE_COLUMNS = 180  # a pipe has no window width, and truncated reasons help nobody


@dataclass(frozen=True)
class VersionRow:
    """One version for the table; `skills` in the policy's order."""

    number: str
    aliases: Sequence[str]
    bpb: float | None
    skills: Mapping[str, float | None]
    verdict: str
    made: str
    git_commit: str


def make_console() -> Console:
    """Return a console on standard output, `PIPE_COLUMNS` wide if that is not a terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)


def list_rows(store: Store, skills: Sequence[str]) -> list[VersionRow]:
    """Return one row per version, newest first."""
    aliases = store.read_aliases()
    rows: list[VersionRow] = []
    for version in store.list_versions():
        metrics, tags = store.read_metrics(version), version.tags
        notes = [note for key, note in (("rolled_back", "rolled back"), ("forced_reason", "forced")) if key in tags]
        row = VersionRow(
            version.number,
            [alias for alias, number in aliases.items() if number == version.number],
            metrics.get("bpb"),
            {name: metrics.get(name) for name in skills},
            ", ".join([tags.get("gate", "not judged"), *notes]),
            version.made_at.strftime("%Y-%m-%d %H:%M"),
            tags.get("git_commit", ""),
        )
        rows.append(row)
    return rows


def make_verdict_table(verdict: Verdict) -> Table:
    """Return a table with one row per check of the gate."""
    table = Table("metric", "candidate", "champion", "change", "allowed change", "verdict", box=box.SIMPLE_HEAD)
    for check in verdict.checks:
        change = "" if check.change is None else f"{check.change:+.4f}"
        passed = "[green]passed[/]" if check.is_passed else "[bold red]refused[/]"
        table.add_row(check.name, f"{check.candidate:.4f}", _format(check.champion, 4), change, check.allowed, passed)
    return table


def make_version_table(rows: Sequence[VersionRow]) -> Table:
    """Return a table with one row per version."""
    skills = list(rows[0].skills) if rows else []
    names = [name.removesuffix("_frac").replace("_", " ") for name in skills]
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("version", "alias", "bits/byte", *names, "gate", "created", "commit"):
        table.add_column(name, no_wrap=name not in names)
    for row in rows:
        values = [_format(row.bpb, 4), *(_format(row.skills.get(name), 2) for name in skills)]
        table.add_row(row.number, ", ".join(row.aliases), *values, row.verdict, row.made, row.git_commit[:8])
    return table


def _format(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
