"""Convert Arrow columns of any type to Python values: every row gets a value, or the reason why it has none.

In: a record batch of any source, and the names of columns (`a.b` is the field b of the struct a). Out: rows as dicts. Values that
Python's types can't hold (dates past the year 9999, nanoseconds, unknown time zones) become their text; a string that is not UTF-8
becomes its bytes; what has no text either becomes a `BadValue`. Memory: one batch.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

FAILURES = (ValueError, OverflowError, TypeError, KeyError, ImportError, NotImplementedError, pa.ArrowException)


class BadValue(NamedTuple):
    """Stands for a value that can't be read."""

    detail: str


class RowProblem(NamedTuple):
    """Why a row has no fields: a reason that is counted, a detail, and what the row is (`is not JSON`)."""

    reason: str
    detail: str
    verdict: str


Rows: TypeAlias = Iterator[tuple[int, Mapping[str, Any] | RowProblem]]  # with the number of each row


def make_too_large(max_bytes: int) -> RowProblem:
    """Return the problem of a row that exceeds the limit."""
    return RowProblem("too_large", f"more than max_member_bytes = {max_bytes}", "is too large")


def iterate_rows(
    batch: pa.RecordBatch, columns: Sequence[str], names: Sequence[str], *, is_checked: bool
) -> Iterator[dict[str, object]]:
    """Yield the rows of a batch with those of `columns` that it has; `a.b` gives the whole of a. Without the first of them, rows
    also have all `names` of the file, with None, so that an error can list them. Values of a file that was not decoded but only
    mapped are checked first (`is_checked` is false)."""
    present = batch.schema.names
    tops = dict.fromkeys(name if name in present else name.split(".")[0] for name in columns)
    arrays = {name: batch.column(present.index(name)) for name in tops if name in present}
    absent = {} if columns and has_column(batch.schema, columns[0]) else dict.fromkeys(names)
    values = [list_values(array) if is_checked else list_checked_values(array) for array in arrays.values()]
    rows: Any = zip(*values, strict=True) if values else repeat((), batch.num_rows)
    for row in rows:
        yield {**absent, **dict(zip(arrays, row, strict=True))} if absent else dict(zip(arrays, row, strict=True))


def has_column(schema: pa.Schema, name: str) -> bool:
    """Return whether there is a column of that name, or a field at that path of structs."""
    first, *rest = [name] if name in schema.names else name.split(".")
    kind: Any = schema.types[schema.names.index(first)] if first in schema.names else None
    for part in rest:
        at = kind.get_field_index(part) if isinstance(kind, pa.StructType) else -1
        kind = kind.field(at).type if at >= 0 else None
    return kind is not None


def list_checked_values(column: pa.Array) -> list[Any]:
    """Return a value, or a `BadValue`, for each row of a column that was only mapped: its offsets may lead out of its buffers."""
    try:
        column.validate(full=True)
        return list_values(column)
    except pa.ArrowInvalid:
        return [_check_value(column[at : at + 1]) for at in range(len(column))]


def _check_value(column: pa.Array) -> Any:
    """Return the value of a column of one row, bytes for a string that is not UTF-8."""
    kind = pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
    failure = ""
    for is_raw in (False, True):
        try:
            if is_raw and not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                break
            buffers = column.buffers()
            checked = pa.Array.from_buffers(kind, 1, buffers, offset=column.offset) if is_raw else column
            checked.validate(full=True)
            return list_values(checked)[0]
        except pa.ArrowInvalid as error:
            failure = failure or f"{column.type}: {error}"
    return BadValue(failure)


def list_values(column: pa.Array) -> list[Any]:
    """Return a value, or a `BadValue`, for each row."""
    try:
        return _make_plain(column).to_pylist()
    except FAILURES:
        return [_convert_value(column[at : at + 1]) for at in range(len(column))]


def _make_plain(column: pa.Array) -> pa.Array:
    """Return the values of an extension type, of a dictionary or of runs as a column of their own type."""
    while True:
        kind = column.type
        if isinstance(kind, pa.BaseExtensionType):
            column = column.storage
        elif pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        elif pa.types.is_run_end_encoded(kind):
            column = pc.run_end_decode(column)
        else:
            return column


def _convert_value(column: pa.Array) -> Any:
    """Return the value of a column of one row; of a struct, each field that can be read."""
    if pa.types.is_struct(column.type) and column.is_valid()[0].as_py():
        return {
            column.type.field(at).name: _convert_value(pc.struct_field(column, [at]))
            for at in range(column.type.num_fields)
        }
    failure = ""
    for convert in (_make_plain, _cast_to_bytes, _cast_to_text, _cast_to_number):
        try:
            return convert(column).to_pylist()[0]
        except FAILURES as error:
            failure = failure or f"{column.type}: {error}"
    return BadValue(failure)


def _cast_to_bytes(column: pa.Array) -> pa.Array:
    plain = _make_plain(column)
    is_text = pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type)
    if not is_text and not pa.types.is_string_view(plain.type):
        raise TypeError("not a string")
    return plain.cast(pa.large_binary())


def _cast_to_text(column: pa.Array) -> pa.Array:
    return _make_plain(column).cast(pa.string())


def _cast_to_number(column: pa.Array) -> pa.Array:
    return _make_plain(column).cast(pa.int64()).cast(pa.string())
