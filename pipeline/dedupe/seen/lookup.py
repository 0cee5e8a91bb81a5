"""Documents that repeat what an earlier run has kept, found in the index that `dedupe.index` names and dropped before all else.

In: the shards, the index (pipeline/dedupe/seen/__main__.py). Out: marks in the corpus, ledger rows that name the earlier document, and
`index.json`, which says what was asked: the same runs give the same decisions. Memory: one batch of documents for each worker.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.dedupe.ledger_writer import LedgerSpool
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.ranking import Corpus
from pipeline.dedupe.seen.__main__ import IndexSnapshot, duplicates_in, record, snapshot
from pipeline.frame.metrics import Metrics, write_json
from pipeline.storage.arrow import read_arrow, write_arrow
from pipeline.workers.results import map_files


def drop_known(
    params: Dedupe, paths: Sequence[Path], corpus: Corpus, ledger: LedgerSpool, scratch: Path, out: Path
) -> Metrics:
    """They take no part in anything that follows; how many there are. Nothing without an index."""
    if params.index is None:
        return {}
    known = snapshot(params.index, params)
    write_json(out / "index.json", record(known))
    settings = json.dumps([record(known), params.min_jaccard], sort_keys=True)
    look = partial(write_duplicates, known=known, min_jaccard=params.min_jaccard)
    found = map_files(look, paths, results=scratch / "earlier", settings=settings)
    for path, first in zip(found, corpus.firsts.tolist(), strict=False):
        table = read_arrow(path)
        is_exact = table.column("is_exact").to_numpy(zero_copy_only=False).astype(np.bool_)
        for reason, threshold, mask in (
            ("seen_before_exact", 1.0, is_exact),
            ("seen_before", params.min_jaccard, ~is_exact),
        ):
            rows = table.filter(mask)
            places = first + rows.column("row").to_numpy()
            corpus.is_known[places] = True
            value, other = rows.column("similarity").to_numpy(), rows.column("other_id").combine_chunks()
            ledger.add(reason, places, value=value, threshold=threshold, other=other)
    return {f"dropped_{reason}": ledger.counts[reason] for reason in ("seen_before", "seen_before_exact")}


def write_duplicates(shard: Path, result: Path, known: IndexSnapshot, min_jaccard: float) -> None:
    """The rows of one shard that earlier runs know: runs in a worker."""
    write_arrow(result, duplicates_in(shard, known, min_jaccard))
