"""Read lines and show answers: on a terminal with line history and dimmed remarks, or through a pipe.

In a pipe only answers go to stdout and remarks go to stderr, so that a script reads just the answers; on a terminal both go to the
terminal. There, lines break between words. Covers: control characters (escape codes) in generated text and in passages never
reach the terminal.
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
from rich.cells import cell_len
from rich.console import Console

from assistant.terminal.plain_text import strip_control_characters

_WORDS = re.compile(r"\n|[^\S\n]+|\S+")  # a line break, other whitespace, or a word


class Screen:
    """One terminal or pipe. `read` returns the next line; it raises EOFError at the end (Ctrl-D), KeyboardInterrupt on Ctrl-C."""

    def __init__(self, *, is_terminal: bool, history_file: Path | None = None) -> None:
        self.is_terminal = is_terminal
        self._remarks = Console(stderr=not is_terminal, highlight=False, markup=False, soft_wrap=not is_terminal)
        self._wrapper = WordWrapper(lambda: self._remarks.width) if is_terminal else None
        self._prompt: Callable[[str], str] | None = None
        if is_terminal:
            history = FileHistory(str(history_file)) if history_file else InMemoryHistory()
            self._prompt = PromptSession[str](history=history).prompt

    def read(self) -> str:
        """Return the next line without its line break."""
        if self._prompt is not None:
            return self._prompt("you › ")
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    def write(self, text: str) -> None:
        """Show a piece of an answer at once; on a terminal, words as soon as they are complete."""
        text = strip_control_characters(text)
        sys.stdout.write(self._wrapper.wrap(text) if self._wrapper else text)
        sys.stdout.flush()

    def end_answer(self) -> None:
        """Show the rest of an answer and end its line."""
        sys.stdout.write((self._wrapper.flush() if self._wrapper else "") + "\n")
        sys.stdout.flush()

    def remark(self, text: str) -> None:
        """Show a line that is not part of the answer."""
        self._remarks.print(strip_control_characters(text), style="dim")

    def remark_truncated(self, text: str) -> None:
        """Show a remark in one line; on a terminal, truncate it to the width."""
        text = text.replace("\n", " ")
        width = self._remarks.width - 1
        self.remark(text[: width - 1] + "…" if self.is_terminal and len(text) > width else text)


class WordWrapper:
    """Wraps text that arrives in pieces. A word is held back until it is complete or fills a line; a longer one is left to the
    terminal. Line breaks and indentation of the text itself stay. `get_width` returns the current number of columns."""

    def __init__(self, get_width: Callable[[], int]) -> None:
        self._get_width = get_width
        self._held = ""  # the whitespace before the current word, and the word so far
        self._column = 0
        self._is_inside_word = False  # the last word shown was too long to be held back, and may continue

    def wrap(self, text: str) -> str:
        """Return what can be shown of the text so far."""
        parts = _split_words(self._held + text)
        self._held = parts.pop() if parts and parts[-1] != "\n" else ""
        shown = "".join(map(self._place, parts))
        if self._held.strip() and cell_len(self._held) >= self._get_width():
            shown += self._place(self._held)
            self._held, self._is_inside_word = "", True
        return shown

    def flush(self) -> str:
        """Return what is held back, and start at the beginning of a line again."""
        rest, self._held = self._place(self._held), ""
        self._column = 0
        return rest

    def _place(self, word: str) -> str:
        is_continued, self._is_inside_word = self._is_inside_word and not word[:1].isspace(), False
        if word == "\n":
            self._column = 0
            return word
        size = cell_len(word)
        if self._column and self._column + size > self._get_width() and word.strip() and not is_continued:
            word = word.lstrip()
            self._column = cell_len(word)
            return "\n" + word
        self._column += size
        return word


def _split_words(text: str) -> list[str]:
    """Split into line breaks and words with the whitespace before them."""
    parts: list[str] = []
    space = ""
    for part in _WORDS.findall(text):
        if part == "\n":
            parts += [space, part] if space else [part]
            space = ""
        elif part.isspace():
            space = part
        else:
            parts.append(space + part)
            space = ""
    return [*parts, space] if space else parts


class Interruption:
    """A context in which Ctrl-C only sets `is_requested`, so that an answer ends between two tokens; a second one raises
    KeyboardInterrupt."""

    def __init__(self) -> None:
        self.is_requested = False
        self._previous: Any = None

    def __enter__(self) -> Interruption:
        self._previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
