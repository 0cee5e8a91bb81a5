"""Read literal ChatML, `<|im_start|>role … <|im_end|>`: a text of turns → turns, a text file → its conversations.

Raises `ConversationError`, which all readers of conversations raise. Does not cover: a turn that contains `<|im_end|>` as text,
which no reader could tell from its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from model.tokenizer.histories import ROLE_OF

CHATML_MARK = "<|im_start|>"
CHATML_TURN = re.compile(r"<\|im_start\|>(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
CHATML_BETWEEN = re.compile(r"\s*(?:(?:<\|endoftext\|>|</?s>)\s*)*")


class ConversationError(ValueError):
    """Report why a row gives no conversation to train on: the reason is counted, the detail is shown."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def parse_chatml(text: str) -> list[dict[str, str]]:
    """Return the turns of a literal ChatML text. Raises: ConversationError for text outside of turns, or a turn without an end."""
    turns: list[dict[str, str]] = []
    end = 0
    for match in CHATML_TURN.finditer(text):
        _check_between(text[end : match.start()])
        role, newline, content = match[1].partition("\n")
        if not newline or not match[0].endswith("<|im_end|>"):
            raise ConversationError(
                "chatml", f"turn {len(turns) + 1} has no {'end' if newline else 'line of its own for the role'}"
            )
        turns.append({"role": role.strip(), "content": content.removesuffix("\n")})
        end = match.end()
    _check_between(text[end:])
    return turns


def _check_between(text: str) -> None:
    if not CHATML_BETWEEN.fullmatch(text):
        raise ConversationError("chatml", f"text outside of turns: {text.strip()[:60]!r}")


def split_chatml(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the conversations of a text file of ChatML with their first lines. A blank line after the end of a turn, a system turn
    or `<|endoftext|>` begins a new one."""
    start, held, is_closed = 0, [], False
    for number, line in lines:
        role = line.removeprefix(CHATML_MARK).strip().lower() if line.startswith(CHATML_MARK) else ""
        is_new = is_closed and (not line.strip() or ROLE_OF.get(role) == "system")
        if held and is_new:
            yield start, "\n".join(held)
            held = []
        if held or line.strip():
            start = start if held else number
            held.append(line)
        if line.strip():
            is_closed = line.rstrip().endswith(("<|im_end|>", "<|endoftext|>"))
            if line.rstrip().endswith("<|endoftext|>"):
                yield start, "\n".join(held)
                held = []
    if held:
        yield start, "\n".join(held)
