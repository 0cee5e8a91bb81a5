"""Learners' logs and handovers of one tenant, as its educators see them.

In: the folder of a tenant (service/access/tenant_files.py) with what the assistant's profiles have written; names as they come
from a URL. Out: the educator's view and its details (desk_parts.py). A name is accepted only if it is that of a file in its
folder, so none leads out of it. Time: O(bytes of the logs).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from assistant.profiles.learner_log import NAME, LogEntry, read_log, summarize
from service.page.desk_parts import Cell, make_section, show_button, show_part, show_text, show_time
from service.service_error import ServiceError

MAX_ENTRIES = 1_000  # of one learner, the newest
MAX_LISTED = 200  # handovers, the newest; exercises, the hardest
MAX_HANDOVER_BYTES = 1_000_000
RESULT_COLUMNS = ("Exercises", "Solved", "Wrong answers", "Given up", "Progress")
LEARNER_COLUMNS = ("Learner", "Profile", "Questions", *RESULT_COLUMNS, "Last seen")
EXERCISE_COLUMNS = ("Material", *RESULT_COLUMNS)
_FOLDER = re.compile(r"[\w-]{1,100}")
_HANDOVER = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{1,9}")


def make_educator_desk(folder: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the view of a tenant's folder. `names`: people by the names of their files."""
    return {
        "about": "What learners asked and tried, and the conversations in which somebody asked for a person.",
        "sections": [
            make_section("Learners", LEARNER_COLUMNS, [_list_learner(path, names) for path in _list_logs(folder)]),
            make_section("Exercises", EXERCISE_COLUMNS, _list_exercises(folder)),
            make_section(
                "Handovers", ["Time", "From", "Questions without an answer", ""], _list_handovers(folder, names)
            ),
        ],
    }


def _list_logs(folder: Path) -> list[Path]:
    paths = sorted((folder / "learners").glob("*/*.jsonl"))
    return [path for path in paths if _FOLDER.fullmatch(path.parent.name) and NAME.fullmatch(path.stem)]


def _name(person: str, names: Mapping[str, str]) -> str:
    return names.get(person) or f"unknown ({person[:8]})"


def _list_learner(path: Path, names: Mapping[str, str]) -> list[Cell]:
    entries, n_damaged = _read(path)
    counts = summarize(entries).get(path.stem, {})
    name = _name(path.stem, names) + (f" ({n_damaged} damaged lines)" if n_damaged else "")
    return [
        show_button(name, f"/v1/educator/learners/{path.parent.name}/{path.stem}"),
        path.parent.name,
        counts.get("asked", 0),
        *_show_results(counts),
        {"time": max(entry.time for entry in entries)} if entries else None,
    ]


def _list_exercises(folder: Path) -> list[list[Cell]]:
    """Return what exercises were about, with their results: the material that is solved least often comes first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for path in _list_logs(folder):
        for entry in _read(path)[0]:
            if entry.verb != "asked":
                counts[" · ".join(entry.titles) or entry.object][entry.verb] += 1
    rows = sorted(counts.items(), key=lambda row: (row[1]["passed"] / max(row[1]["attempted"], 1), row[0]))
    return [[show_text(title), *_show_results(results)] for title, results in rows[:MAX_LISTED]]


def _show_results(counts: Mapping[str, int]) -> list[Cell]:
    given, solved = counts.get("attempted", 0), counts.get("passed", 0)
    bar = show_part(solved, given, f"{solved} solved of {given}")
    return [given, solved, counts.get("failed", 0), counts.get("abandoned", 0), bar]


def read_learner(folder: Path, profile: str, learner: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what a learner asked and tried, newest first. Raises: ServiceError 404."""
    path = folder / "learners" / profile / f"{learner}.jsonl"
    if not (_FOLDER.fullmatch(profile) and NAME.fullmatch(learner) and path.is_file()):
        raise _not_found("learner")
    entries, _ = _read(path)
    rows = [[entry.verb, entry.text, " · ".join([entry.time, *entry.titles])] for entry in entries]
    return {"title": _name(learner, names), "rows": rows[::-1][:MAX_ENTRIES]}


def _list_handovers(folder: Path, names: Mapping[str, str]) -> list[list[Cell]]:
    paths = [path for path in (folder / "handovers").glob("*/*.md") if _HANDOVER.fullmatch(path.stem)]
    paths = sorted((path for path in paths if NAME.fullmatch(path.parent.name)), key=lambda path: path.stem)
    return [
        [
            show_time(_read_time(path.stem)),
            show_text(_name(path.parent.name, names)),
            _count_open(path),
            show_button("Read", f"/v1/educator/handovers/{path.parent.name}/{path.stem}"),
        ]
        for path in paths[::-1][:MAX_LISTED]
    ]


def read_handover(folder: Path, person: str, name: str) -> dict[str, Any]:
    """Return the text of a handover. Raises: ServiceError 404."""
    path = folder / "handovers" / person / f"{name}.md"
    if not (NAME.fullmatch(person) and _HANDOVER.fullmatch(name) and path.is_file()):
        raise _not_found("handover")
    return {"title": "Handover", "text": _read_text(path)}


def _read(path: Path) -> tuple[list[LogEntry], int]:
    try:
        return read_log(path)
    except ValueError as error:
        message = "learners: a log can't be read; found it unreadable; tell the operator."
        raise ServiceError(503, message, code="log_unreadable") from error


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_HANDOVER_BYTES).decode("utf-8", "replace")


def _read_time(name: str) -> datetime:
    try:
        return datetime.strptime(name.rpartition("-")[0], "%Y-%m-%dT%H-%M-%S").replace(tzinfo=UTC)
    except ValueError:  # 2026-99-99: nobody's handover, but a file of this folder
        return datetime.fromtimestamp(0, UTC)


def _count_open(path: Path) -> int:
    """Return the number of questions that had no answer."""
    _, _, rest = _read_text(path).partition("## Without an answer\n")
    return sum(line.startswith("- ") for line in rest.partition("\n## ")[0].split("\n"))


def _not_found(what: str) -> ServiceError:
    return ServiceError(404, f"{what}: there is none of this name; found no file; list them again.", code="not_found")
