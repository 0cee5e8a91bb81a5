"""What the registry says on a terminal: the gate's rows and the table of versions. In: plain values. Out: rich tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.registry.gate import Verdict

PIPE_COLUMNS = 180  # in a pipe nobody sees a window's width, and cut-off reasons help nobody


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


def console() -> Console:
    """Standard output, wide enough where it is no terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)


def verdict_table(verdict: Verdict) -> Table:
    """One row per check."""
    table = Table("check", "candidate", "champion", "change", "allowed", "verdict", box=box.SIMPLE_HEAD)
    for check in verdict.checks:
        change = "" if check.change is None else f"{check.change:+.4f}"
        passed = "[green]passed[/]" if check.is_passed else "[bold red]refused[/]"
        table.add_row(check.name, f"{check.candidate:.4f}", _figure(check.champion, 4), change, check.allowed, passed)
    return table


def version_table(rows: Sequence[VersionRow]) -> Table:
    """One row per version."""
    skills = list(rows[0].skills) if rows else []
    names = [name.removesuffix("_frac").replace("_", " ") for name in skills]
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("version", "alias", "bits/byte", *names, "gate", "made", "commit"):
        table.add_column(name, no_wrap=name not in names)
    for row in rows:
        values = [_figure(row.bpb, 4), *(_figure(row.skills.get(name), 2) for name in skills)]
        table.add_row(row.number, ", ".join(row.aliases), *values, row.verdict, row.made, row.git_commit[:8])
    return table


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
