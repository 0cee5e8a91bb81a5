"""Read the conversations of `conversations.sources`: files below the input `chats` → screened conversations and rejects.

In: the settings of the sources, the folder, a `ChatScreen`. Out: one `SourceChat` per conversation or row, in the order of
sources, files and rows; `error` is why it is left out. One broken row never ends a run; a file without any usable conversation
does, and so does a file that no source names. Memory: one batch, and what the screen keeps. Time: O(bytes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from model.tokenizer.chat import Message
from pipeline.conversations.chat_files import KINDS, list_chat_files, read_chat_rows
from pipeline.conversations.chat_formats import FIELDS, Draft, read_row
from pipeline.conversations.chat_screen import Candidate, ChatScreen, Passed
from pipeline.conversations.chatml import ConversationError
from pipeline.conversations.params import ChatSource
from pipeline.conversations.turn_order import check_turns
from pipeline.frame.errors import UserError
from pipeline.storage.files import find_below
from pipeline.storage.streams import split_name
from pipeline.storage.values import RowProblem

BATCH = 1_000  # conversations, at most …
BATCH_CHARS = 16_000_000  # … of so many characters
DETAIL_CHARS = 200
SETTING = "conversations.sources"


class SourceChat(NamedTuple):
    """A conversation of a source, or a row that is none. Without an error, `key` and `n_tokens` are the screen's."""

    source: str
    file: str  # below the input folder
    line: str  # number of the row, and of the conversation in it if it has several
    messages: list[Message]
    license: str
    format: str
    has_end_mark: bool
    error: ConversationError | None = None
    key: bytes = b""
    n_tokens: int = 0

    @property
    def locator(self) -> str:
        """File and line, as in messages to the user."""
        return f"{self.file}:{self.line}"


def read_sources(folder: Path, sources: Sequence[ChatSource], screen: ChatScreen) -> Iterator[SourceChat]:
    """Yield all conversations and rejects. Raises: `UserError` for a file that can't be used, or one that no source names."""
    files = find_source_files(folder, sources)
    for source in sources:
        n_kept = 0
        first: SourceChat | None = None
        for path in files[source.name]:
            for chat in read_chat_file(path, str(path.relative_to(folder.resolve())), source, screen):
                n_kept += chat.error is None
                first = first or (chat if chat.error else None)
                yield chat
        if not n_kept and first and first.error:
            raise UserError(
                f"{SETTING}: nothing of {source.name} can be trained on",
                f"all rows are rejected, the first, {first.locator}: {first.error.reason} ({show_detail(first.error)})",
                f"run `python -m pipeline.conversations check {folder}` for all reasons, or remove the source",
            )


def find_source_files(folder: Path, sources: Sequence[ChatSource]) -> dict[str, list[Path]]:
    """Return the files of each source. Raises: `UserError` for a path without files, or a file that no source names."""
    files: dict[str, list[Path]] = {}
    for index, source in enumerate(sources):
        files[source.name] = _find_files(folder, source.path, f"{SETTING}.{index}.path")
    named = {path.resolve() for paths in files.values() for path in paths}
    others = [
        path for path in list_chat_files(folder) if split_name(path.name)[0] in KINDS and path.resolve() not in named
    ]
    if others:
        name = others[0].relative_to(folder)
        shown = make_printable(str(name))
        raise UserError(
            f"{folder}: {len(others)} files of conversations that no source names",
            make_printable(", ".join(str(path.relative_to(folder)) for path in others[:5]))
            + (" …" if len(others) > 5 else ""),
            f"add them to {SETTING}, as in {{name: {make_name(name)}, path: {shown}, license: MIT}}, or move them elsewhere",
        )
    return files


def _find_files(folder: Path, path: str, setting: str) -> list[Path]:
    root = folder.resolve()
    if not (root / path).is_dir():
        return [Path(file.path) for file in find_below(folder, path, setting)]
    files = list_chat_files(root / path)
    if not files:
        raise UserError(
            f"{setting}: no files of conversations", str(folder / path), f"put some there, of {', '.join(KINDS)}"
        )
    if outside := [file for file in files if not file.parent.resolve().is_relative_to(root)]:
        raise UserError(
            f"{setting}: leads out of {folder}", str(outside[0]), f"copy the files to {folder}, where DVC tracks them"
        )
    return files


def make_name(path: Path) -> str:
    """Return a name for the source of a file."""
    stem = path.name.partition(".")[0].lower()
    name = "".join(character if character.isascii() and character.isalnum() else "_" for character in stem)
    return name if name[:1].isalpha() else f"chats_{name}"


def read_chat_file(path: Path, name: str, source: ChatSource, screen: ChatScreen) -> Iterator[SourceChat]:
    """Yield the conversations and rejects of a file. Raises: `UserError` if it has no row that is a conversation."""
    n_rows, n_read = 0, 0
    first: SourceChat | None = None
    rows = _read_drafts(path, name, source)
    while batch := list(_take_batch(rows)):
        n_rows += len(batch)
        n_read += sum(chat.error is None for chat in batch)
        first = first or next((chat for chat in batch if chat.error), None)
        yield from _screen_batch(batch, screen)
    if not n_read:
        found = "an empty file"
        if first and first.error:
            found = f"{n_rows:,} rows; line {first.line}: {first.error.reason} ({show_detail(first.error)})"
        raise UserError(
            f"{path}: no usable conversation",
            found,
            "correct it; name its fields in `columns` (docs/chats.md); or remove it",
        )


def _take_batch(chats: Iterator[SourceChat]) -> Iterator[SourceChat]:
    n_chars = 0
    for chat in islice(chats, BATCH):
        yield chat
        n_chars += sum(len(message.text) for message in chat.messages)
        if n_chars >= BATCH_CHARS:
            return


def _read_drafts(path: Path, name: str, source: ChatSource) -> Iterator[SourceChat]:
    """Yield the conversations of a file with their turns checked."""
    columns: Mapping[str, str] = source.columns.model_dump(exclude_none=True) if source.columns else {}
    fields = list(columns.values()) or [*FIELDS, *source.ignore]
    for number, row in read_chat_rows(path, fields):
        if isinstance(row, RowProblem):
            yield _reject(source, name, str(number), ConversationError(row.reason, row.detail))
            continue
        drafts = read_row(row, source.format, columns, source.ignore)
        for part, draft in enumerate(drafts, 1):
            line = f"{number}.{part}" if len(drafts) > 1 else str(number)
            yield _check_draft(draft, source, name, line)


def _check_draft(draft: Draft | ConversationError, source: ChatSource, file: str, line: str) -> SourceChat:
    try:
        if isinstance(draft, ConversationError):
            raise draft
        messages = check_turns(draft.messages)
    except ConversationError as error:
        return _reject(source, file, line, error)
    return SourceChat(
        source.name, file, line, messages, draft.license or source.license, draft.format, draft.has_end_mark
    )


def _reject(source: ChatSource, file: str, line: str, error: ConversationError) -> SourceChat:
    return SourceChat(source.name, file, line, [], "", "", False, error)


def _screen_batch(batch: Sequence[SourceChat], screen: ChatScreen) -> Iterator[SourceChat]:
    checked = [chat for chat in batch if chat.error is None]
    verdicts = iter(screen.judge([Candidate(chat.messages, chat.license, chat.locator) for chat in checked]))
    for chat in batch:
        verdict = None if chat.error else next(verdicts)
        if isinstance(verdict, Passed):
            yield chat._replace(key=verdict.key, n_tokens=verdict.n_tokens)
        else:
            yield chat._replace(error=chat.error or verdict)


def show_detail(error: ConversationError) -> str:
    """Return the detail of an error for a terminal: one line, no control character, at most `DETAIL_CHARS`."""
    return make_printable(error.detail[:DETAIL_CHARS])


def make_printable(text: str) -> str:
    """Return the text with everything that is not printable escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
