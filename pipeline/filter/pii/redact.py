"""Replace personal data and secrets in a column of texts by placeholders that name their kind (model/masking/find_personal.py says
what is covered).

In: a column of texts. Out: the column with replacements and otherwise unchanged, and the number of each kind in each row.
Deterministic and idempotent: a redacted text has nothing left to redact. Time: linear. Memory: a copy of the column if anything
changed.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.masking.find_personal import (
    DEFAULTS,
    KINDS,
    MAX_ROUNDS,
    FoundSpan,
    Options,
    find_spans,
    join_replaced,
)
from pipeline.text.columns import Bytes, Offsets, to_utf8


class Redacted(NamedTuple):
    """The texts after replacement, and one int64 column `pii_<kind>` for each requested kind."""

    texts: pa.StringArray
    counts: pa.RecordBatch


def redact(texts: pa.StringArray, kinds: Sequence[str] = KINDS, options: Options = DEFAULTS) -> Redacted:
    """Replace personal data of these kinds. A column without any is returned as the same object."""
    counts = np.zeros((len(KINDS), len(texts)), np.int64)
    rows = np.arange(len(texts))
    part = texts
    for _ in range(MAX_ROUNDS):
        data, offsets = to_utf8(part)
        spans = find_spans(data, offsets, kinds, options)
        if not spans:
            break
        for each in spans:
            counts[KINDS.index(each.kind), rows[each.row]] += 1
        changed, part = _replace_spans(data, offsets, spans)
        rows = rows[changed]
        is_changed = np.zeros(len(texts), np.bool_)
        is_changed[rows] = True
        texts = pc.replace_with_mask(texts, pa.array(is_changed), part)
    columns = {f"pii_{kind}": pa.array(counts[KINDS.index(kind)]) for kind in kinds}
    return Redacted(texts, pa.record_batch(columns))


def _replace_spans(data: Bytes, offsets: Offsets, spans: Sequence[FoundSpan]) -> tuple[list[int], pa.StringArray]:
    """Return the rows that contain spans, and their new texts."""
    rows: list[int] = []
    texts: list[bytes] = []
    for row, own in groupby(spans, key=lambda each: each.row):
        rows.append(row)
        texts.append(join_replaced(data, int(offsets[row]), int(offsets[row + 1]), list(own)))
    return rows, pa.array(texts, pa.binary()).cast(pa.string())
