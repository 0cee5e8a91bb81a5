"""Read lines and lists: the one place that decides how the bytes of a text file are decoded and where its lines end.

In: UTF-8, or UTF-16 and UTF-32 with a byte order mark. Out: numbered lines. LF, CRLF and a lone CR end a line; U+2028, U+2029,
U+0085, VT and FF do not, since JSON and texts contain them. A mark at the start of any line is removed: files that were joined have
such marks in the middle. Blank lines count, but are not returned. Memory: `CHUNK_BYTES` and one line.
Does not cover: other encodings, and UTF-16 without a mark, which is detected and refused.
"""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pipeline.frame.errors import UserError
from pipeline.storage.streams import BROKEN, BombError, CountedFile, decompress, split_name

CHUNK_BYTES = 1 << 18
SNIFFED_BYTES = 4_096
MARK = "\ufeff"
ENCODINGS = {  # by their mark; that of UTF-16 is a prefix of that of UTF-32
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
MIN_NUL_FRAC = 0.02  # of the high bytes of UTF-16: spaces and line breaks have a zero there in every script
MAX_LETTER_FRAC = 0.1  # of the same bytes: a text in UTF-8 with a few zeros has letters there
LETTERS = b"abcdefghijklmnopqrstuvwxyz "
TODO = "save the file as UTF-8"


def read_list(path: Path) -> list[tuple[int, str]]:
    """Return number and text of the lines of a file that are not blank, stripped; the file may be compressed.

    Raises `UserError` that names the file, and the line if one is not valid text.
    """
    try:
        with path.open("rb") as file:
            return list(read_lines(decompress(CountedFile(file), split_name(path.name)[1]), str(path)))
    except (*BROKEN, BombError) as error:
        raise UserError(f"{path}: can't be read", str(error), "give a text file with one entry per line") from error


def read_json_list(path: Path) -> list[tuple[int, Any]]:
    """Return number and value of each line of a JSON lines file. Raises `UserError` that names the file and the line."""
    return [(number, parse_json_line(text, f"{path}:{number}")) for number, text in read_list(path)]


def parse_json_line(text: str, position: str) -> Any:
    """Return the value of one line. Raises `UserError` that names its position (`FILE:LINE`)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{position}: not JSON", f"{text[:80]} ({error})", "write one JSON value per line") from error


def read_lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank, stripped. Raises `UserError` (`name:LINE`) for invalid text."""
    number = 0
    try:
        for number, data in split_lines(stream):
            assert data is not None, "there is no limit"
            if text := data.decode().strip():
                yield number, text
    except UnicodeError as error:
        raise UserError(f"{name}:{max(number, 1)}: not UTF-8", str(error), TODO) from error


def number_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line of a decoded text that is not blank, without marks and stripped."""
    for number, line in enumerate(normalize_newlines(text).split("\n"), 1):
        if stripped := line.lstrip(MARK).strip():
            yield number, stripped


def split_lines(
    stream: IO[bytes], max_bytes: int = 0, *, has_blank: bool = False
) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and UTF-8 bytes of each line; None instead of one of more than `max_bytes` (0: no limit). Blank lines are
    skipped unless `has_blank` is true.

    The bytes of a line are not checked, so that the caller can go on behind an invalid one. Raises `UnicodeError` for UTF-16
    without a mark, and whatever the stream raises, after all lines that are complete before the break.
    """
    number, n_held = 0, 0
    held: list[bytes] = []
    for chunk in read_utf8(stream):
        *lines, rest = chunk.split(b"\n")
        if lines:
            n_held += len(lines[0])
            lines[0] = b"".join((*held, lines[0]))
            is_too_long = max_bytes and n_held > max_bytes
            held, n_held = [], 0
            for line in lines:
                number += 1
                if is_too_long or (max_bytes and len(line) > max_bytes):
                    yield number, None
                    is_too_long = False
                elif (line := _strip_marks(line)).strip() or has_blank:
                    yield number, line
        n_held += len(rest)
        held = [] if max_bytes and n_held > max_bytes else [*held, rest]
    if max_bytes and n_held > max_bytes:
        yield number + 1, None
    elif (line := _strip_marks(b"".join(held))).strip():
        yield number + 1, line


def _strip_marks(line: bytes) -> bytes:
    while line.startswith(codecs.BOM_UTF8):
        line = line[len(codecs.BOM_UTF8) :]
    return line


def read_utf8(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the stream as chunks of UTF-8 with Unix line breaks. Invalid text stays invalid. Raises `UnicodeError` for UTF-16
    without a mark."""
    is_held = False  # a CR, of which the LF may follow
    for chunk in _transcode(stream):
        chunk = b"\r" + chunk if is_held else chunk
        is_held = chunk.endswith(b"\r")
        chunk = chunk[:-1] if is_held else chunk
        yield chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in chunk else chunk
    if is_held:
        yield b"\n"


def _transcode(stream: IO[bytes]) -> Iterator[bytes]:
    chunks = _read_chunks(stream)
    head, failure = _read_head(chunks)
    encoding = detect_encoding(head)
    if encoding == "utf-8":
        yield head
        if failure:
            raise failure
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    yield decoder.decode(head).encode("utf-8", "surrogatepass")
    if failure:
        raise failure
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    yield b"\xff" if decoder.getstate()[0] else b""  # half a character: invalid in UTF-8 too


def _read_head(chunks: Iterator[bytes]) -> tuple[bytes, Exception | None]:
    """Return the first chunks, up to `SNIFFED_BYTES`, and the error that ended them earlier."""
    head = b""
    try:
        while len(head) < SNIFFED_BYTES and (chunk := next(chunks, b"")):
            head += chunk
    except (*BROKEN, BombError) as error:
        return head, error
    return head, None


def _read_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what the stream has, piece by piece: everything before a break arrives before its error."""
    read: Any = getattr(stream, "read1", stream.read)
    while chunk := read(CHUNK_BYTES):
        yield chunk


def detect_encoding(head: bytes) -> str:
    """Return the encoding that the mark at the start of a file declares; `utf-8` if there is none.

    Raises `UnicodeError` for what can only be UTF-16 without a mark: zeros at every other position.
    """
    encoding = next((name for mark, name in ENCODINGS.items() if head.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in head[:SNIFFED_BYTES]:
        low, high = sorted((head[at:SNIFFED_BYTES:2] for at in (0, 1)), key=lambda half: half.count(0))
        n_letters = len(high) - len(high.translate(None, LETTERS))
        if not low.count(0) and high.count(0) >= MIN_NUL_FRAC * len(high) and n_letters < MAX_LETTER_FRAC * len(high):
            raise UnicodeError("UTF-16 without a byte order mark")
    return encoding


def decode_text(data: bytes) -> str:
    """Return a whole text with Unix line breaks and without marks at the starts of lines. Raises `UnicodeError`."""
    return strip_line_marks("".join(decode_chunks(io.BytesIO(data))))


def decode_chunks(stream: IO[bytes]) -> Iterator[str]:
    """Yield the text of a stream in pieces, with Unix line breaks; marks stay (`strip_line_marks`). Raises `UnicodeError`."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in read_utf8(stream):
        try:
            yield decoder.decode(chunk)
        except UnicodeDecodeError as error:  # after everything before it
            yield error.object[: error.start].decode()
            raise
    yield decoder.decode(b"", final=True)


def strip_line_marks(text: str) -> str:
    """Return the text without byte order marks at the starts of its lines."""
    return text if MARK not in text else "\n".join(line.lstrip(MARK) for line in text.split("\n"))


def normalize_newlines(text: str) -> str:
    """Return the text with Unix line breaks."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
