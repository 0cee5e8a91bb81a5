"""What a person sees while the flow runs: one line = time | stage | text, and nothing that only Prefect would care about.

In: log records. Out: lines on standard output, coloured on a terminal. Records of our own carry `stage`; Prefect's own
(Beginning flow run, Finished in state …) do not: they are in its UI, not here.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path

SETTINGS = Path(__file__).with_name("logging.yml")
STAGE_WIDTH = 15
# What `dvc repro` says around a stage's own lines.
NOISE = re.compile(
    r"^\s*$|^Running stage '|^> |^Stage '.*(didn't change|is cached)|^Updating lock file|^Generating lock file"
    r"|^To track the changes|^\s*git add |^To enable auto staging|^\s*dvc config |^Use `dvc push`|^Data and pipelines are"
    r"|^ERROR: failed to reproduce "
)


class OursOnly(logging.Filter):
    """Keeps our own lines, and errors of anybody who is not Prefect's engine."""

    def filter(self, record: logging.LogRecord) -> bool:
        is_foreign_error = record.levelno >= logging.ERROR and not record.name.startswith("prefect")
        return hasattr(record, "stage") or is_foreign_error


class Line(logging.Formatter):
    """12:00:03 | dedupe          | [####....]  40% 12k/30k docs."""

    def format(self, record: logging.LogRecord) -> str:
        stage = str(getattr(record, "stage", record.name))
        return line(stage, record.getMessage(), level=record.levelno)


def line(stage: str, text: str, level: int = logging.INFO) -> str:
    """One line for the terminal or a file."""
    clock = time.strftime("%H:%M:%S")
    if not sys.stdout.isatty():
        return f"{clock} | {stage:<{STAGE_WIDTH}} | {text}"
    colour = "31" if level >= logging.ERROR else "33" if level >= logging.WARNING else "0"
    return f"\033[2m{clock}\033[0m | \033[36m{stage:<{STAGE_WIDTH}}\033[0m | \033[{colour}m{text}\033[0m"


def is_noise(text: str) -> bool:
    """Lines that say nothing about the work."""
    return NOISE.search(text) is not None


def without_stage(stage: str, text: str) -> str:
    """`dedupe: done` → `done`: the stage stands in the line's column already."""
    return re.sub(rf"^{re.escape(stage)}(:\s*|\s+(?=\[))", "", text)
