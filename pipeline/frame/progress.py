"""Show progress: a live bar on a terminal, one plain line every few seconds in a pipe or a log file.

The plain line has the same bar, count, rate and time left, and never a carriage return, so that the output stays readable in
Prefect and in files.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 5.0
BAR_WIDTH = 24
LEAST_SECONDS = 0.05  # a rate over a shorter time would be meaningless


class Bar:
    """Report the progress of a stage: `with Bar("dedupe", total, "docs") as bar: bar.advance(n)`; a `total` of 0 means unknown."""

    def __init__(
        self, stage: str, total: int, unit: str, line_seconds: float = LINE_SECONDS, *, is_shown: bool = True
    ) -> None:
        self.stage, self.total, self.unit, self.line_seconds = stage, total, unit, line_seconds
        self.is_shown = is_shown
        self.done = 0
        self.note = ""
        self._resumed = 0
        self._started = self._last_line = time.monotonic()
        self._live: Progress | None = None

    def __enter__(self) -> Bar:
        if self.is_shown and sys.stdout.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(BAR_WIDTH),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._live = Progress(*columns, TimeRemainingColumn())
            self._live.start()
            self._task = self._live.add_task(self.stage, total=self.total or None, note="")
        return self

    def start_at(self, done: int) -> None:
        """Count `done` units that an earlier run completed; they are not part of the rate."""
        self.done = self._resumed = done
        self._started = time.monotonic()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more completed units; `note` is a short text such as the loss."""
        self.done += n
        self.note = note or self.note
        self._show(force=self.done == self.total)

    def _show(self, *, force: bool) -> None:
        if self._live is not None:
            self._live.update(self._task, completed=self.done, note=self.note or self._rate())
            return
        now = time.monotonic()
        if not self.is_shown:
            return
        if force or now - self._last_line >= self.line_seconds:
            self._last_line = now
            print(self.format_line(), flush=True)

    def _rate(self) -> str:
        seconds = time.monotonic() - self._started
        return f"{short((self.done - self._resumed) / seconds)} {self.unit}/s" if seconds > LEAST_SECONDS else ""

    def format_line(self) -> str:
        """Return one line: bar, percentage, count, rate, time left, note."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        parts = [f"{short(self.done)} {self.unit}", self._rate()]
        bar = ""
        if self.total:
            frac = min(self.done / self.total, 1.0)
            filled = int(frac * BAR_WIDTH)
            bar = f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {frac:4.0%} "
            parts[0] = f"{short(self.done)}/{short(self.total)} {self.unit}"
            fresh = self.done - self._resumed
            if fresh and self.done < self.total and seconds > LEAST_SECONDS:
                parts.append(f"{clock(seconds * (self.total - self.done) / fresh)} left")
        return f"{self.stage} {bar}" + ", ".join(part for part in [*parts, self.note] if part)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def short(number: float) -> str:
    """Format a number with a unit prefix: 1234567 → '1.23M'."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def clock(seconds: float) -> str:
    """Format a duration: 185 → '3:05'."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
