"""Read pairs of answers that others wrote, in the layouts that preference data has, with every reject counted.

In: a folder of JSONL files, each row with a prompt, a chosen and a rejected answer:

    messages (or prompt) + chosen + rejected          the prompt as messages or as text, the answers as text or as messages
    chosen + rejected                                 whole conversations, as messages or as text with `Human:` and `Assistant:`
                                                      turns, which differ in the last answer only

Messages have any form that model/tokenizer/histories.py reads. Out: pairs, and rejects with file, line and reason: not_json, layout
(a field is missing or of another type), roles (an answer that is not the assistant's), empty (an answer or a prompt without text),
equal (both answers are the same). Memory: all pairs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from model.tokenizer.chat import Message
from model.tokenizer.histories import messages_from_any
from pipeline.frame.errors import UserError

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class AnswerPair(NamedTuple):
    """A prompt and two answers; `kind` names what is wrong with the rejected one, or the file it is from."""

    id: str
    kind: str
    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message


class RejectedPair(NamedTuple):
    """A row that gives no pair, and why."""

    file: str
    line: int
    reason: str
    detail: str


class _PairError(ValueError):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_pairs(folder: Path) -> tuple[list[AnswerPair], list[RejectedPair]]:
    """Return the pairs of all files and the rejects. Raises: `UserError` if there is no file, or no usable pair."""
    paths = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not paths:
        raise UserError("prefer: --pairs has no JSONL file", f"none in {folder}", "name a folder with *.jsonl files")
    pairs: list[AnswerPair] = []
    rejects: list[RejectedPair] = []
    for path in paths:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                pairs.append(parse_pair(line, f"{path.name}:{number}", path.stem))
            except _PairError as error:
                rejects.append(RejectedPair(path.name, number, error.reason, str(error)))
    if not pairs:
        first = f", first {rejects[0].reason}: {rejects[0].detail}" if rejects else ""
        raise UserError(
            f"prefer: no usable pair in {folder}",
            f"{len(rejects)} rejected rows{first}",
            "give rows with messages (or prompt), chosen and rejected",
        )
    return pairs, rejects


def parse_pair(line: bytes, pair_id: str, kind: str) -> AnswerPair:
    """Return the pair of one row. Raises: ValueError with the reason of a reject."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _PairError("not_json", str(error)) from None
    if not isinstance(row, dict):
        raise _PairError("layout", f"a row must be an object, found {type(row).__name__}")
    values = cast("dict[str, Any]", row)
    if missing := [name for name in ("chosen", "rejected") if name not in values]:
        raise _PairError("layout", f"{missing[0]} is missing, found {', '.join(values)[:80] or 'nothing'}")
    chosen, rejected = (_read_side(values[name], name) for name in ("chosen", "rejected"))
    prompt = _read_prompt(values, chosen, rejected)
    pair = AnswerPair(pair_id, kind, tuple(prompt), chosen[-1], rejected[-1])
    _check_pair(pair)
    return pair


def _read_side(value: Any, name: str) -> list[Message]:
    """Return the messages of one side; a text without turns is one answer."""
    if isinstance(value, str):
        parts = _TURN.split(value)
        if len(parts) < 3 or parts[0].strip():
            return [Message.of("assistant", value.strip())]
        return [Message.of(_ROLES[role], text.strip()) for role, text in zip(parts[1::2], parts[2::2], strict=True)]
    messages = _read_messages(value, name)
    if not messages:
        raise _PairError("empty", f"{name} has no message")
    return messages


def _read_messages(value: Any, name: str) -> list[Message]:
    try:
        return messages_from_any([value] if isinstance(value, Mapping) else value, name)
    except ValueError as error:
        raise _PairError("layout", str(error)) from None


def _read_prompt(values: Mapping[str, Any], chosen: Sequence[Message], rejected: Sequence[Message]) -> list[Message]:
    """Return the prompt: what both sides begin with, or else the row's own field."""
    if len(chosen) > 1 or len(rejected) > 1:
        if list(chosen[:-1]) != list(rejected[:-1]):
            raise _PairError("layout", "chosen and rejected differ before their last message")
        return list(chosen[:-1])
    given = values.get("messages", values.get("prompt"))
    if given is None:
        raise _PairError("layout", "messages (or prompt) is missing beside answers without one")
    return [Message.of("user", given.strip())] if isinstance(given, str) else _read_messages(given, "messages")


def _check_pair(pair: AnswerPair) -> None:
    """Raise the reason why a pair can't be used."""
    for name in ("chosen", "rejected"):
        answer: Message = getattr(pair, name)
        if answer.role != "assistant":
            raise _PairError("roles", f"{name} must end with the assistant's answer, found {answer.role}")
        if answer.call is None and not answer.text.strip():
            raise _PairError("empty", f"{name} is empty")
    if not any(message.text.strip() for message in pair.prompt if message.role == "user"):
        raise _PairError("empty", "the prompt has no message of the user")
    if pair.prompt[-1].role == "assistant":
        raise _PairError("roles", "the prompt must end before the assistant's answer")
    if (pair.chosen.call, pair.chosen.text.strip()) == (pair.rejected.call, pair.rejected.text.strip()):
        raise _PairError("equal", "chosen and rejected are the same")


def write_rejects(path: Path, rejects: Iterable[RejectedPair]) -> None:
    """Write one JSON object per reject."""
    lines = [json.dumps(reject._asdict(), ensure_ascii=False) + "\n" for reject in rejects]
    path.write_text("".join(lines), encoding="utf-8")
