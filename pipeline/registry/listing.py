"""Tables of the registry for the terminal: the gate's checks, and all versions. In: plain values. Out: rich tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.registry.gate import Verdict
from pipeline.registry.paired.seed_noise import Spread
from pipeline.registry.promotion import Store
from pipeline.report.decision import DECISION_HEAD, DecisionRow
from pipeline.report.labels import describe_metric

VERDICT_STYLES = {
    "better": "green",
    "equal": "default",
    "worse": "bold red",
    "not compared": "dim",
    "not judged": "dim",
}
WIDE_COLUMNS = 130  # from here on the decision table has a column for each part
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


def make_decision_rows(verdict: Verdict, titles: Mapping[str, str]) -> list[DecisionRow]:
    """Return the gate's decision table; metrics without a title get one from their name."""
    return [
        DecisionRow(
            check.name,
            titles.get(check.name) or describe_metric(check.name),
            check.champion,
            check.candidate,
            check.change,
            *(check.interval or (None, None)),
            check.verdict,
            check.rule,
        )
        for check in verdict.checks
    ]


def print_verdict_table(
    console: Console, rows: Sequence[DecisionRow], sides: tuple[str, str] = ("champion", "candidate")
) -> None:
    """Print the gate's decision table; on a narrow terminal the interval and the rule are below their values."""
    is_narrow = console.width < WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD)
    head = (DECISION_HEAD[0], *sides, *DECISION_HEAD[3:])
    for name in [name for name in head if not (is_narrow and name in ("95 % interval", "Rule"))]:
        is_text = name in ("Metric", "Verdict", "Rule")
        table.add_column(name.lower(), no_wrap=name not in ("Metric", "Rule"), justify="left" if is_text else "right")
    for row in rows:
        title, rule = escape(row.title), escape(row.rule)
        before, after, change, interval = row.numbers
        verdict = f"[{VERDICT_STYLES[row.verdict]}]{row.verdict}[/]"
        if is_narrow:
            table.add_row(f"{title}\n[dim]{rule}[/]", before, after, f"{change}\n[dim]{interval}[/]", verdict)
        else:
            table.add_row(title, before, after, change, interval, verdict, rule)
    console.print(table)


def make_spread_table(spreads: Sequence[Spread]) -> Table:
    """Return a table with one row per metric over runs that differ in their seed only."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("metric", "mean", "sd of seeds", "lowest", "highest", "± SE over items"):
        table.add_column(name, no_wrap=True, justify="left" if name == "metric" else "right")
    for row in spreads:
        table.add_row(row.metric, *(f"{value:.4f}" for value in (row.mean, row.sd, row.low, row.high, row.se)))
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
