"""Format the flow's output for the terminal: one line = time | stage | text, without Prefect's internal messages.

In: log records. Out: lines on standard output, colored on a terminal. Our own records have the attribute `stage`; Prefect's
(Beginning flow run, Finished in state …) do not, and are shown in its UI only.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path

SETTINGS = Path(__file__).with_name("logging.yml")
STAGE_WIDTH = 15
# What `dvc repro` prints around a stage's own lines, and what torch prints when it is interrupted.
NOISE = re.compile(
    r"^\s*$|^Running stage '|^> |^Stage '.*(didn't change|is cached)|^Updating lock file|^Generating lock file"
    r"|^To track the changes|^\s*git add |^To enable auto staging|^\s*dvc config |^Use `dvc push`|^Data and pipelines are"
    r"|^ERROR: failed to reproduce "
    r"|^WARNING: '.*takedowns\.jsonl' is empty|^WARNING: Process '.*' with \(Pid \d+\), in RWLock-file .* had been killed"
    r"|^(\[rank\d+\]:)?\[?W\d{4} \d\d:\d\d:\d\d\.\d+ .*(torch/distributed|\.cpp:\d+\])"
)


class OursOnly(logging.Filter):
    """Keep our own records, and errors of all libraries but Prefect."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be shown."""
        is_foreign_error = record.levelno >= logging.ERROR and not record.name.startswith("prefect")
        return hasattr(record, "stage") or is_foreign_error


class Line(logging.Formatter):
    """Format records as `12:00:03 | dedupe          | [####....]  40% 12k/30k docs`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        stage = str(getattr(record, "stage", record.name))
        return format_line(stage, record.getMessage(), level=record.levelno)


def format_line(stage: str, text: str, level: int = logging.INFO) -> str:
    """Return one line, with colors if standard output is a terminal."""
    clock = time.strftime("%H:%M:%S")
    if not sys.stdout.isatty():
        return f"{clock} | {stage:<{STAGE_WIDTH}} | {text}"
    color = "31" if level >= logging.ERROR else "33" if level >= logging.WARNING else "0"
    return f"\033[2m{clock}\033[0m | \033[36m{stage:<{STAGE_WIDTH}}\033[0m | \033[{color}m{text}\033[0m"


def is_noise(text: str) -> bool:
    """Return whether a line of DVC or torch tells nothing about the stage's work."""
    return NOISE.search(text) is not None


def strip_stage(stage: str, text: str) -> str:
    """Remove the stage's name from the start of a line: it is in a column of its own. `dedupe: done` becomes `done`."""
    return re.sub(rf"^{re.escape(stage)}(:\s*|\s+(?=\[))", "", text)
