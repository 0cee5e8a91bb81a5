"""The texts of evaluation sets, read from files, and the n-grams of them that no document may hold.

In: `filter.decontamination` of params.yaml: sets by name, with a path and the fields that hold text. `.jsonl .ndjson` and
`.parquet` (one item a row), `.txt` (one item a line), plain or packed; a file, a folder, a glob, fsspec URLs. Out: `Leaks`, and
the same as a file, which is all that a worker gets. An item is called `<set>:<file>#<row>`. Memory: the texts of all sets, once.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.params import Decontamination, EvaluationSet
from pipeline.sources.streams import BROKEN, BombError, CountedFile, split_name, unpacked
from pipeline.sources.text import find_files
from pipeline.tables import read_parquet_stream, read_table, write_table
from pipeline.text.decontaminate import Leaks, build, from_table, to_table
from pipeline.text.normalize import fold, split_words

KINDS = (".jsonl", ".ndjson", ".parquet", ".txt")


def read_leaks(params: Decontamination) -> Leaks:
    """Every n-gram of every set. Raises `UserError` for a file that can't be read, a field that no row has, a set without items."""
    texts: list[str] = []
    labels: list[str] = []
    sets: list[int] = []
    for place, each in enumerate(params.sets):
        n_before = len(texts)
        for label, text in read_set(each, f"filter.decontamination.sets.{place}"):
            texts.append(text)
            labels.append(label)
            sets.append(place)
        if len(texts) == n_before:
            raise UserError(f"evaluation set {each.name}: no texts", repr(each.path), "correct its path and fields")
    words = split_words(fold(pa.array(texts, pa.string())))
    names = [each.name for each in params.sets]
    n, shortest = params.ngram_words, min(params.min_words, params.ngram_words)
    return build(words, labels, np.array(sets, np.int64), names, ngram_words=n, min_words=shortest)


def read_set(params: EvaluationSet, setting: str) -> Iterator[tuple[str, str]]:
    """The label and the text of every field of every item."""
    system, files, _ = find_files(params.path, f"{setting}.path")
    fields = dict.fromkeys(params.fields, 0)
    names: list[str] = []
    for found in files:
        kind, compression = split_name(found.name)
        if kind not in KINDS:
            raise UserError(
                f"{setting}.path: this kind of file can't be read", found.path, f"name files of {' '.join(KINDS)}"
            )
        try:
            with system.open(found.path, "rb") as file:
                for number, row in _rows(kind, unpacked(CountedFile(file), compression), fields, found.path):
                    names = names or sorted(row)
                    for field in fields if kind != ".txt" else row:
                        for text in _texts(row, field.split(".")):
                            fields[field] = fields.get(field, 0) + 1
                            yield f"{params.name}:{found.name}#{number}", text
        except (*BROKEN, BombError, pa.ArrowException, UnicodeError) as error:
            raise UserError(
                f"{setting}.path: not readable", f"{found.path}: {error}", "fetch the file again"
            ) from error
    missing = [field for field, n in fields.items() if not n]
    if missing or (not fields and any(split_name(found.name)[0] != ".txt" for found in files)):
        raise UserError(
            f"{setting}.fields: {'no row has ' + ', '.join(missing) if missing else 'none are named'}",
            f"the first row has {', '.join(names) or 'none'}",
            "name the fields that hold the evaluation's texts",
        )


def _rows(
    kind: str, stream: IO[bytes], fields: Mapping[str, int], path: str
) -> Iterator[tuple[int, Mapping[str, object]]]:
    if kind == ".parquet":
        names = list({field.split(".")[0]: None for field in fields})
        yield from enumerate(read_parquet_stream(stream, names), 1)
        return
    for number, line in enumerate(stream, 1):
        text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode().strip()
        if not text:
            continue
        if kind == ".txt":
            yield number, {"line": text}
            continue
        try:
            row: Any = json.loads(text)
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} is not JSON", str(error), "mend the file, or name another"
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is no JSON object", text[:80], "one object a line, please")
        yield number, row


def _texts(value: object, path: Sequence[str]) -> Iterator[str]:
    """The texts at a dotted name; of a list all of them."""
    if isinstance(value, list):
        for each in value:
            yield from _texts(each, path)
    elif path:
        if isinstance(value, Mapping):
            yield from _texts(value.get(path[0]), path[1:])
    elif isinstance(value, str) and value.strip():
        yield value


def write_leaks(path: Path, leaks: Leaks) -> None:
    """The file that workers read; the same sets give the same bytes."""
    write_table(path, to_table(leaks))


@lru_cache(maxsize=2)
def load_leaks(path: Path) -> Leaks:
    """Read once a process."""
    return from_table(read_table(path))


def leak_metrics(leaks: Leaks) -> dict[str, int]:
    """Of each set: how many different n-grams are looked for, and how many texts are too short to be."""
    n_ngrams = np.bincount(leaks.set_of_item[leaks.items], minlength=len(leaks.sets))
    found = {f"decontamination_{name}_ngrams": int(n_ngrams[place]) for place, name in enumerate(leaks.sets)}
    short = {
        f"decontamination_{name}_too_short": int(leaks.n_too_short[place]) for place, name in enumerate(leaks.sets)
    }
    return found | short


def contaminated_metrics(figures: pa.Table, is_dropped: npt.NDArray[np.bool_]) -> dict[str, int]:
    """By set, how many of the documents dropped as contaminated hold n-grams of it; one document may count for several sets."""
    prefix = "leak_ngrams_"
    names = [name.removeprefix(prefix) for name in figures.column_names if name.startswith(prefix)]
    return {
        f"contaminated_{name}_docs": int(np.count_nonzero(is_dropped & (figures.column(prefix + name).to_numpy() > 0)))
        for name in names
    }
