"""Read rows of JSON: lines of objects, an array of objects, or objects one after the other, without holding the whole file.

In: a stream of bytes in any encoding that `lines` reads. Out: rows, and problems with their reason. An invalid line is a problem
and reading continues; in an array, nothing can be read behind invalid text. Memory: one row of at most `max_bytes`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from pipeline.storage.lines import MARK, decode_chunks, detect_encoding, split_lines
from pipeline.storage.values import RowProblem, Rows, make_too_large

PEEK_BYTES = 1 << 16
NEAR = 16  # characters before the end of the buffer: a value that ends there may be incomplete
RECORD = "\x1e"  # begins each line of a JSON text sequence (RFC 7464)
SPACE = " \t\r\n" + MARK + RECORD
REST = "the rest of the file was not read"


def read_json_lines(stream: IO[bytes], max_bytes: int) -> Rows:
    """Yield the object of each line."""
    for number, line in split_lines(stream, max_bytes):
        yield number, make_too_large(max_bytes) if line is None else _parse_line(line)


def _parse_line(line: bytes) -> Mapping[str, Any] | RowProblem:
    try:
        row: Any = json.loads(line.decode().removeprefix(RECORD))
    except UnicodeDecodeError as error:
        return RowProblem("not_utf8", str(error), "is not readable: not UTF-8")
    except (ValueError, RecursionError) as error:
        return RowProblem("not_json", str(error), "is not JSON")
    return _check_object(row)


def _check_object(row: Any) -> Mapping[str, Any] | RowProblem:
    if isinstance(row, dict):
        return row
    return RowProblem("not_json", f"a JSON {type(row).__name__}, not an object", "is not a JSON object")


def read_json(stream: IO[bytes], max_bytes: int) -> Rows:
    """Yield the objects of a `.json` file: one per line, or the elements of an array, or any sequence."""
    peekable: Any = stream if hasattr(stream, "peek") else io.BufferedReader(io.BytesIO(stream.read()))
    if _has_json_lines(peekable.peek(PEEK_BYTES)):
        yield from read_json_lines(peekable, max_bytes)
        return
    number = 0
    try:
        for value in JsonValues(decode_chunks(peekable), max_bytes).read():
            number += 1
            yield number, _check_object(value)
    except OverflowError:
        yield number + 1, make_too_large(max_bytes)
    except UnicodeDecodeError as error:
        yield number + 1, RowProblem("not_utf8", f"{error}; {REST}", "is not readable: not UTF-8")
    except (ValueError, RecursionError) as error:
        yield number + 1, RowProblem("not_json", f"{error}; {REST}", "is not JSON")


def _has_json_lines(head: bytes) -> bool:
    """Return whether a file has one object per line: its first line is one."""
    text = head.decode(detect_encoding(head), "replace").lstrip(SPACE)
    first, newline, _ = text.replace("\r", "\n").partition("\n")
    return not text.startswith("[") and (not newline or first.rstrip().endswith("}"))


class JsonValues:
    """Parse the elements of a JSON array, or a sequence of JSON values, one by one."""

    def __init__(self, chunks: Iterator[str], max_chars: int) -> None:
        self.chunks, self.max_chars = chunks, max_chars
        self.text, self.at = "", 0
        self.decode = json.JSONDecoder().raw_decode

    def read(self) -> Iterator[Any]:
        """Yield the values. Raises `ValueError` where the text is not JSON, `OverflowError` for a longer value than `max_chars`."""
        if self._find_next() != "[":
            while self._find_next():
                yield self._read_value()
            return
        self.at += 1
        char = self._find_next()
        while char and char != "]":
            yield self._read_value()
            char = self._find_next()
            if char == ",":
                self.at += 1
                char = self._find_next() or " "
            elif char and char != "]":
                raise ValueError(f"{char!r} between the elements of an array")
        self.at += 1
        if not char or self._find_next():
            raise ValueError("text behind the array" if char else "the array has no end")

    def _find_next(self) -> str:
        """Move to the next character that is not white space and return it; empty at the end."""
        while True:
            while self.at < len(self.text):
                if (char := self.text[self.at]) not in SPACE:
                    return char
                self.at += 1
            if not self._fill(1):
                return ""

    def _fill(self, n_chars: int) -> bool:
        """Add at least `n_chars` to the buffer, or what is left; return whether there was anything."""
        parts, n_new = [self.text[self.at :]], 0
        while n_new < n_chars and (chunk := next(self.chunks, None)) is not None:
            parts.append(chunk)
            n_new += len(chunk)
        self.text, self.at = "".join(parts), 0
        return n_new > 0

    def _read_value(self) -> Any:
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                n_held = len(self.text) - self.at
                is_cut = error.pos + NEAR >= len(self.text) or error.msg.startswith("Unterminated string")
                if is_cut and n_held > self.max_chars:
                    raise OverflowError from error
                if not is_cut or not self._fill(n_held + 1):
                    raise ValueError(f"{error.msg} (character {error.pos - self.at} of the value)") from error
            else:
                if end == len(self.text) and not isinstance(value, dict | list | str) and self._fill(1):
                    continue  # a number may go on
                self.at = end
                return value
