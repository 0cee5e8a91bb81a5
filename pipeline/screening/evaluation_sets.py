"""Read the texts of evaluation sets from files and index their n-grams, which no document may contain.

In: `filter.decontamination` or `conversations.decontamination` of params.yaml: sets by name, with the fields that hold text and a
path (a file, a folder or a glob) relative to the stage's input `sets`. One item per row of `.jsonl .json .csv .tsv .parquet
.arrow`, or per line of `.txt`, plain or compressed; the fields of a `.csv` without a header are numbers (`["1", "2"]`). Out:
`Leaks`, and a file with the same content for the workers. An item is labeled `<set>:<file>#<row>`.
Memory: the texts of all sets, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.frame.errors import UserError
from pipeline.screening.contamination import Leaks, build_leaks, from_table, to_table
from pipeline.screening.match_words import extract_match_words
from pipeline.screening.params import Decontamination, EvaluationSet
from pipeline.storage.files import TEXT, FoundFile, find_below, find_texts, iterate_rows, open_local
from pipeline.storage.lines import read_lines
from pipeline.storage.streams import split_name
from pipeline.storage.tables import read_table, write_table


def read_leaks(params: Decontamination, folder: Path, setting: str = "filter.decontamination") -> Leaks:
    """Return the n-grams of all sets, whose files are below `folder`; `setting` is the dotted name of `params`.

    Raises `UserError` for a file that can't be read, a field that no row has, or a set without items.
    """
    texts: list[str] = []
    labels: list[str] = []
    sets: list[int] = []
    for index, each in enumerate(params.sets):
        n_before = len(texts)
        for label, text in read_set(each, folder, f"{setting}.sets.{index}"):
            texts.append(text)
            labels.append(label)
            sets.append(index)
        if len(texts) == n_before:
            raise UserError(f"evaluation set {each.name}: no texts", repr(each.path), "correct its path and fields")
    words = extract_match_words(pa.array(texts, pa.string()))
    names = [each.name for each in params.sets]
    n, shortest = params.ngram_words, min(params.min_words, params.ngram_words)
    return build_leaks(words, labels, np.array(sets, np.int64), names, ngram_words=n, min_words=shortest)


def read_set(params: EvaluationSet, folder: Path, setting: str) -> Iterator[tuple[str, str]]:
    """Yield (label, text) for every field of every item. The set's path is relative to `folder`."""
    files = find_below(folder, params.path, f"{setting}.path")
    fields = dict.fromkeys(params.fields, 0)
    names: list[str] = []
    for file in files:
        for number, row in _read_items(file, params.fields, f"{setting}.path"):
            names = names or sorted(row)
            for field in fields if split_name(file.name)[0] != TEXT else row:
                for text in find_texts(row, field.split(".")):
                    fields[field] = fields.get(field, 0) + 1
                    yield f"{params.name}:{file.name}#{number}", text
    missing = [field for field, n in fields.items() if not n]
    if missing or (not fields and any(split_name(file.name)[0] != TEXT for file in files)):
        raise UserError(
            f"{setting}.fields: {'no row has ' + ', '.join(missing) if missing else 'no fields are named'}",
            f"the first row has {', '.join(names) or 'none'}",
            'name the fields that hold the evaluation\'s texts; in a table without a header by their numbers, such as "1"',
        )


def _read_items(file: FoundFile, fields: Sequence[str], setting: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield (row number, fields) for each item; an item of a text file has the single field `line`."""
    kind = split_name(file.name)[0]
    with open_local(file, setting) as stream:
        if kind == TEXT:
            yield from ((number, {"line": text}) for number, text in read_lines(stream, file.path))
        else:
            yield from iterate_rows(stream, kind, list({field.split(".")[0]: None for field in fields}), file.path)


def write_leaks(path: Path, leaks: Leaks) -> None:
    """Write the file that workers read; the same sets give the same bytes."""
    write_table(path, to_table(leaks))


@lru_cache(maxsize=2)
def load_leaks(path: Path) -> Leaks:
    """Return the leaks from the file, read once per process."""
    return from_table(read_table(path))


def count_leak_ngrams(leaks: Leaks) -> dict[str, int]:
    """Return for each set the number of distinct n-grams, and of texts that are too short to be matched."""
    n_ngrams = np.bincount(leaks.set_of_item[leaks.items], minlength=len(leaks.sets))
    n_distinct = {f"decontamination_{name}_ngrams": int(n_ngrams[index]) for index, name in enumerate(leaks.sets)}
    n_too_short = {
        f"decontamination_{name}_too_short": int(leaks.n_too_short[index]) for index, name in enumerate(leaks.sets)
    }
    return n_distinct | n_too_short


def count_contaminated_docs(scores: pa.Table, is_dropped: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Count by set the dropped documents that contain its n-grams; a document may count for several sets."""
    prefix = "leak_ngrams_"
    names = [name.removeprefix(prefix) for name in scores.column_names if name.startswith(prefix)]
    return {
        f"contaminated_{name}_docs": int(np.count_nonzero(is_dropped & (scores.column(prefix + name).to_numpy() > 0)))
        for name in names
    }
