"""Query the index of earlier runs on behalf of `dedupe`: fix which runs count, then look up documents in any worker.

`take_snapshot` is called once per run of the stage; its small result travels to the workers, which call `find_duplicates` for a
shard. `describe_snapshot` is what the stage stores: the same runs give the same decisions.
Memory, time, and the rule for which document was earlier: `index_folder.py` and `runs.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.params import Dedupe, NearIndex
from pipeline.dedupe.seen.index_folder import FolderIndex
from pipeline.dedupe.seen.runs import IndexedRun, SeenDocuments, Settings, check_settings, sketch_batches
from pipeline.frame.errors import UserError
from pipeline.storage.tables import read_shard

FILL = "fill it with python -m pipeline.dedupe.seen add"
DUPLICATES = pa.schema(
    [("row", pa.int64()), ("other_id", pa.string()), ("similarity", pa.float64()), ("is_exact", pa.bool_())]
)


class IndexSnapshot(NamedTuple):
    """The runs of an index that count: small, and the same for every worker."""

    place: str
    settings: Settings
    runs: tuple[IndexedRun, ...]


def open_index(place: str) -> FolderIndex:
    """Open the index in a folder; nothing is created before something is added. Raises `UserError` for a URL."""
    if "://" in place:  # which may contain a password
        raise UserError(
            "dedupe.index.place (--index): must be a folder index",
            f"a URL ({place.partition('://')[0]}://…)",
            f"give the path of a folder; {FILL}",
        )
    return FolderIndex(Path(place))


def make_settings(dedupe: Dedupe) -> Settings:
    """Return the settings that an index must have been filled with to be queried under these params."""
    return Settings(dedupe.ngram_words, dedupe.n_bands, dedupe.n_rows, dedupe.seed)


def take_snapshot(near: NearIndex, dedupe: Dedupe) -> IndexSnapshot:
    """Return the runs that `near` names, as they are now. Raises `UserError` if there is no index, if it was filled with other
    settings, or if a named run is not in it."""
    index, settings = open_index(near.place), make_settings(dedupe)
    stored, place = index.read_settings(), near.place
    if stored is None:
        raise UserError(
            f"dedupe.index.place: no index in {place}",
            "nothing was ever added",
            f"{FILL}, or set dedupe.index to null for the first run",
        )
    check_settings(place, stored, settings)
    runs = {run.name: run for run in index.list_runs()}
    names = list(runs) if near.runs == "all" else near.runs
    missing = [name for name in names if name not in runs]
    if missing:
        present = ", ".join(runs) or "no runs"
        raise UserError(
            f"dedupe.index.runs: {', '.join(missing)} is not in {place}", present, "name runs that the index contains"
        )
    chosen = sorted((runs[name] for name in dict.fromkeys(names)), key=lambda run: run.number)
    return IndexSnapshot(near.place, settings, tuple(chosen))


def query_snapshot(known: IndexSnapshot, sketches: Sketches, min_jaccard: float) -> SeenDocuments:
    """Return which of these documents an earlier run kept, and under which id."""
    return open_index(known.place).query(known.runs, sketches, known.settings, min_jaccard)


def find_duplicates(shard: Path, known: IndexSnapshot, min_jaccard: float) -> pa.Table:
    """Return the rows of one shard that were seen before (schema DUPLICATES), in order; signatures are computed from the texts."""
    parts, first = [DUPLICATES.empty_table()], 0
    for part in sketch_batches(read_shard(shard, ["id", "text"]), known.settings):
        seen = query_snapshot(known, part, min_jaccard)
        rows = np.flatnonzero(seen.is_seen)
        columns = [first + rows, seen.other_id.take(pa.array(rows)), seen.similarity[rows], seen.is_exact[rows]]
        parts.append(pa.table(columns, schema=DUPLICATES))
        first += len(part.ids)
    return pa.concat_tables(parts)


def describe_snapshot(known: IndexSnapshot) -> dict[str, object]:
    """Return what a stage stores: the settings and, in order, the runs with their hashes; never the place, which may change."""
    runs = [{name: value for name, value in run._asdict().items() if name != "number"} for run in known.runs]
    return {"settings": known.settings._asdict(), "runs": runs}
