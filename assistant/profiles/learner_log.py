"""Keep a log per learner: what was asked, which exercises were tried, and with what result.

    var/learners/PROFILE/LEARNER.jsonl      one JSON object a line, appended

In: what happened, and when (the caller's time). Out: entries, a summary per learner, statements of xAPI 1.0.3 (which learning
record stores read). An entry is appended with one write under a lock, so two processes may log at once. A line that was
cut by a crash is counted and skipped. The learner is told by the greeting that there is a log; deleting the file deletes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

NAME = re.compile(r"[^\W_][\w.-]{0,63}")
MAX_TEXT_CHARS = 2_000
MAX_LOG_BYTES = 50_000_000
VERBS = {  # xAPI's vocabulary of ADL
    "asked": "http://adlnet.gov/expapi/verbs/asked",
    "attempted": "http://adlnet.gov/expapi/verbs/attempted",
    "passed": "http://adlnet.gov/expapi/verbs/passed",
    "failed": "http://adlnet.gov/expapi/verbs/failed",
    "abandoned": "https://w3id.org/xapi/adl/verbs/abandoned",
}
HOME_PAGE = "https://minigpt.invalid/learners"  # xAPI wants an IRI beside a name; .invalid can't be anybody's
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, HOME_PAGE)


class LogEntry(NamedTuple):
    """One event: `verb` is a key of VERBS, `object` the question or the key of the exercise, `text` what was typed, `titles` the
    sections that it was about or answered from."""

    time: str
    learner: str
    verb: str
    object: str
    text: str
    titles: tuple[str, ...]


def get_log_folder(profile: str, folder: Path | None = None) -> Path:
    """Return where the logs of a profile are: in `folder` (default: MINIGPT_LEARNERS, else var/learners)."""
    name = re.sub(r"\W+", "-", profile).strip("-") or "profile"
    return (folder or Path(os.environ.get("MINIGPT_LEARNERS") or "var/learners")) / name


def check_learner(name: str) -> str:
    """Return the name of a learner. Raises: ValueError if it can't be the name of a file."""
    if NAME.fullmatch(name) is None:
        raise ValueError(
            f"--learner must be letters, digits, '.', '_' and '-'; found {name[:80]!r}; choose another name."
        )
    return name


class LearnerLog:
    """The log of one learner."""

    def __init__(self, folder: Path, learner: str) -> None:
        self.path, self.learner = folder / f"{check_learner(learner)}.jsonl", learner

    def add(self, time: datetime, verb: str, subject: str, text: str, titles: Iterable[str]) -> None:
        """Append an entry. Raises: ValueError if the disk does not take it, or the log is too large."""
        entry = LogEntry(
            time.isoformat(timespec="seconds"),
            self.learner,
            verb,
            subject[:MAX_TEXT_CHARS],
            text[:MAX_TEXT_CHARS],
            tuple(titles),
        )
        line = json.dumps(entry._asdict(), ensure_ascii=True) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = file.seek(0, os.SEEK_END)
                if size > MAX_LOG_BYTES:
                    raise ValueError(
                        f"the log of a learner is too large; found {size:,} bytes in {self.path}; move it away."
                    )
                start = b"\n" if size and not _ends_with_break(self.path) else b""  # after a line that a crash cut
                file.write(start + line.encode())
        except OSError as error:
            raise ValueError(
                f"the log can't be written; found {error.strerror}: {self.path}; make it writable."
            ) from error

    def list_done(self) -> frozenset[str]:
        """Return the keys of the exercises that were solved or given up."""
        entries, _ = read_log(self.path)
        return frozenset(entry.object for entry in entries if entry.verb in ("passed", "abandoned"))


def _ends_with_break(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_log(path: Path) -> tuple[list[LogEntry], int]:
    """Return the entries of a log, and how many lines are none. A log that does not exist is empty.

    Raises: ValueError if it can't be read.
    """
    if not path.exists():
        return [], 0
    try:
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
    except OSError as error:
        raise ValueError(f"the log can't be read; found {error.strerror}: {path}; make it readable.") from error
    entries = [entry for line in lines if (entry := _read_entry(line)) is not None]
    return entries, len(lines) - len(entries)


def _read_entry(line: str) -> LogEntry | None:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    texts = [row.get(name) for name in LogEntry._fields if name != "titles"]
    titles = row.get("titles")
    if not isinstance(titles, list) or not all(isinstance(each, str) for each in (*texts, *titles)):
        return None
    return LogEntry._make([*texts, tuple(titles)]) if row["verb"] in VERBS else None


def summarize(entries: Iterable[LogEntry]) -> dict[str, dict[str, int]]:
    """Return how often each learner asked, attempted, passed, failed and abandoned."""
    counts: dict[str, dict[str, int]] = {}
    for entry in entries:
        counts.setdefault(entry.learner, dict.fromkeys(VERBS, 0))[entry.verb] += 1
    return counts


def make_statements(entries: Iterable[LogEntry], profile: str) -> Iterator[dict[str, Any]]:
    """Yield one xAPI statement per entry; the same entry always has the same id, so exporting twice stores nothing twice."""
    for entry in entries:
        key = json.dumps([profile, *entry])
        about = ", ".join(entry.titles) or entry.object
        yield {
            "id": str(uuid.uuid5(_SPACE, key)),
            "timestamp": entry.time,
            "actor": {"objectType": "Agent", "account": {"homePage": HOME_PAGE, "name": entry.learner}},
            "verb": {"id": VERBS[entry.verb], "display": {"en-US": entry.verb}},
            "object": {
                "objectType": "Activity",
                "id": f"{HOME_PAGE}/activities/{uuid.uuid5(_SPACE, entry.object)}",
                "definition": {"name": {"en-US": about[:200]}},
            },
            "result": {"response": entry.text}
            | ({"success": entry.verb == "passed"} if entry.verb in ("passed", "failed") else {}),
            "context": {"platform": profile},
        }
