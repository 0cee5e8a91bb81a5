"""Where a chat reads and writes: a terminal with history and dim remarks, or a pipe, line by line.

In a pipe, answers alone go to stdout and every remark goes to stderr, so that a script gets the answers. On a terminal both
go to it. Covers: control characters (escape codes) in what the model or a passage says never reach the terminal.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, InMemoryHistory
from rich.console import Console

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """`read` gives the next line: EOFError at its end (Ctrl-D), KeyboardInterrupt for Ctrl-C while it waits."""

    def __init__(self, *, is_terminal: bool, history_file: Path | None = None) -> None:
        self.is_terminal = is_terminal
        self._remarks = Console(stderr=not is_terminal, highlight=False, markup=False, soft_wrap=True)
        self._prompt: Callable[[str], str] | None = None
        if is_terminal:
            history = FileHistory(str(history_file)) if history_file else InMemoryHistory()
            self._prompt = PromptSession[str](history=history).prompt

    def read(self) -> str:
        if self._prompt is not None:
            return self._prompt("you › ")
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    def write(self, text: str) -> None:
        """A piece of an answer, shown at once."""
        sys.stdout.write(shown(text))
        sys.stdout.flush()

    def remark(self, text: str) -> None:
        """A line that is no part of the answer."""
        self._remarks.print(shown(text), style="dim")

    def remark_cut(self, text: str) -> None:
        """The same in one line, on a terminal no wider than that."""
        text = text.replace("\n", " ")
        width = self._remarks.width - 1
        self.remark(text[: width - 1] + "…" if self.is_terminal and len(text) > width else text)


def shown(text: str) -> str:
    return _CONTROL.sub("", text)


class Interruption:
    """While it is entered, Ctrl-C only sets `is_asked`, so an answer ends between two tokens; a second one ends the program."""

    def __init__(self) -> None:
        self.is_asked = False
        self._before: Any = None

    def __enter__(self) -> Interruption:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
