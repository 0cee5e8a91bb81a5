"""Report what files of conversations contain: a table for the terminal, or JSON.

In: a file, read and screened as the stage does. Out: its formats, conversations, turns, and rejected rows by reason with the first
of each. Texts of files are escaped before they are printed, so that no escape code reaches the terminal. Memory: one batch.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.conversations.chat_screen import ChatScreen
from pipeline.conversations.chats import make_printable, read_chat_file, show_detail
from pipeline.conversations.params import ChatSource
from pipeline.frame.errors import UserError
from pipeline.storage.tables import read_table

PIPE_COLUMNS = 180  # a pipe has no width, and truncated reasons help nobody


@dataclass
class FileReport:
    """What a file contains; `problem` is why none of it can be used."""

    name: str
    formats: Counter[str] = field(default_factory=Counter[str])
    n_conversations: int = 0
    n_turns: int = 0
    n_tokens: int = 0
    n_end_marks: int = 0
    rejected: Counter[str] = field(default_factory=Counter[str])
    first: dict[str, str] = field(default_factory=dict[str, str])
    problem: str = ""


def report_file(path: Path, name: str, source: ChatSource, screen: ChatScreen) -> FileReport:
    """Read a file and return its report."""
    report = FileReport(name)
    try:
        for chat in read_chat_file(path, name, source, screen):
            if chat.error:
                report.rejected[chat.error.reason] += 1
                report.first.setdefault(chat.error.reason, f"line {chat.line}: {show_detail(chat.error)}")
                continue
            report.formats[chat.format] += 1
            report.n_conversations += 1
            report.n_turns += len(chat.messages)
            report.n_tokens += chat.n_tokens
            report.n_end_marks += chat.has_end_mark
    except UserError as error:
        report.problem = f"{error.found}; {error.do}"
    return report


def print_reports(reports: Sequence[FileReport], *, is_json: bool) -> None:
    """Print a table, or a JSON object per file."""
    if is_json:
        for report in reports:
            print(json.dumps(vars(report), ensure_ascii=True, sort_keys=True))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("file", "format", "conversations", "turns", "tokens", "rejected", "reason, first row"):
        table.add_column(
            title, justify="right" if title in ("conversations", "turns", "tokens", "rejected") else "left"
        )
    for report in reports:
        for cells in _list_lines(report):
            table.add_row(*(Text(make_printable(cell)) for cell in cells))
    make_wide_console().print(table)


def _list_lines(report: FileReport) -> list[tuple[str, ...]]:
    """Return the lines of a file in the table: one per reason."""
    reasons = [(f"{n:,}", f"{reason}, {report.first[reason]}") for reason, n in report.rejected.most_common()]
    if report.n_end_marks:
        reasons.append(("", f"{report.n_end_marks:,} markers of other tokenizers removed from the ends of replies"))
    if report.problem:
        reasons.insert(0, ("", f"not usable: {report.problem}"))
    counts = [f"{n:,}" for n in (report.n_conversations, report.n_turns, report.n_tokens)]
    head = (report.name, ", ".join(sorted(report.formats)) or "–", *counts)
    first, *rest = reasons or [("0", "")]
    return [(*head, *first), *(("", "", "", "", "", *reason) for reason in rest)]


def print_rejects(path: Path, reason: str, limit: int) -> int:
    """Print the rows that a run has left out, and how many by reason. Raises: `UserError` if there are none such."""
    if not path.exists():
        raise UserError(
            "rejects: nothing to show", f"no {path}", "run the stage conversations (dvc repro), or give --data"
        )
    rows = read_table(path).to_pylist()
    counts = Counter(row["reason"] for row in rows)
    if reason and reason not in counts:
        raise UserError(
            f"rejects: no row is rejected for {reason!r}",
            f"reasons are {', '.join(sorted(counts)) or 'none'}",
            "give another",
        )
    print(f"{len(rows):,} rejected" + "".join(f", {n:,} {name}" for name, n in counts.most_common()))
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("source", "row", "reason", "detail"):
        table.add_column(title)
    shown = [row for row in rows if reason in ("", row["reason"])]
    for row in shown[:limit]:
        table.add_row(*(Text(make_printable(row[name])) for name in ("source", "locator", "reason", "detail")))
    if shown:
        make_wide_console().print(table)
    if len(shown) > limit:
        print(f"{len(shown) - limit:,} more: --limit {len(shown)}")
    return 0


def make_wide_console() -> Console:
    """Return a console on standard output, `PIPE_COLUMNS` wide if that is not a terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)
