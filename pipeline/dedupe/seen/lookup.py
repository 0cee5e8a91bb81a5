"""Drop documents that duplicate what an earlier run kept, before anything else; `dedupe.index` names the index to query.

In: the shards, the index. Out: the flag `is_known` in the corpus, ledger rows that name the earlier document, and `index.json`,
which records the runs that were queried: the same runs give the same decisions. Memory: one batch of documents for each worker.
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
from pipeline.dedupe.seen.snapshot import IndexSnapshot, describe_snapshot, find_duplicates, take_snapshot
from pipeline.frame.metrics import Metrics, write_json
from pipeline.storage.arrow import read_arrow, write_arrow
from pipeline.workers.results import map_files


def drop_known(
    params: Dedupe, paths: Sequence[Path], corpus: Corpus, ledger: LedgerSpool, scratch: Path, out: Path
) -> Metrics:
    """Flag known documents, which take no part in anything that follows, and return their counts; {} if there is no index."""
    if params.index is None:
        return {}
    known = take_snapshot(params.index, params)
    write_json(out / "index.json", describe_snapshot(known))
    settings = json.dumps([describe_snapshot(known), params.min_jaccard], sort_keys=True)
    find = partial(write_duplicates, known=known, min_jaccard=params.min_jaccard)
    results = map_files(find, paths, results=scratch / "earlier", settings=settings)
    for path, first in zip(results, corpus.firsts.tolist(), strict=False):
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
    """Write the rows of one shard that earlier runs kept; runs in a worker."""
    write_arrow(result, find_duplicates(shard, known, min_jaccard))
