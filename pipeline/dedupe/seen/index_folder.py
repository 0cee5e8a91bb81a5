"""Store an index of earlier runs in a folder of Arrow files, which are memory-mapped, never loaded.

    runs/00000001-NAME/run.json      the run's number, name, settings, hash, and the batch sizes of its files
    runs/00000001-NAME/docs.arrow    id, digest, shingle set of each document, in the order of the input
    runs/00000001-NAME/keys.arrow    sorted keys and their rows: one batch for ids, one for digests, one per band
    removed/00000002.arrow           which rows of which run were removed; a new file each time
    lock                             held by the writing process

A run is written to a temporary folder and renamed when it is complete and synced. It is not changed later, except that removal
overwrites shingle sets with zeros after it has recorded the removed rows. Files of a killed writer are deleted by the next one.

Memory: adding takes one batch of documents, and 32 bytes per document while keys are sorted; a query takes the shingle sets of one
block of candidates. Disk: 16 + 12 · (bands + 2) bytes per document, and 8 per shingle. Time: one binary search per document, band
and run. The candidates are those of datasketch's MinHashLSH with the same bands: a test compares them. Signatures follow from the
sets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash.matches import Pairs, choose_pairs, make_digest_keys, make_id_keys, sort_keys, sort_wanted
from pipeline.dedupe.minhash.shingles import make_sets
from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.seen.mapped import BANDS, DOCS, KEYS, MappedRun, make_key_columns, read_run
from pipeline.dedupe.seen.runs import (
    Added,
    ContentHash,
    IndexedRun,
    SeenDocuments,
    Settings,
    check_same_run,
    check_settings,
    hash_ids,
    make_duplicate_id_error,
    make_empty_answer,
    sketch_docs,
)
from pipeline.frame.errors import UserError
from pipeline.frame.locks import try_lock
from pipeline.frame.metrics import write_json
from pipeline.storage.arrow import map_batches, write_batches
from pipeline.text.columns import Rows

PARTIAL = ".partial"
REMOVED = pa.schema([("number", pa.int64()), ("row", pa.int64()), ("id", pa.string())])


class FolderIndex:
    """Read and write the index in the folder `place`. All methods raise `UserError` for problems that the user can fix."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def read_settings(self) -> Settings | None:
        """Return the settings that the index was filled with, or None if nothing was ever added."""
        for folder in self._list_run_folders().values():
            return Settings(**read_run(folder)["settings"])
        return None

    def list_runs(self) -> list[IndexedRun]:
        """Return the runs in the order in which they were added."""
        removed = self._read_removed()
        runs: list[IndexedRun] = []
        for path in self._list_run_folders().values():
            run = read_run(path)
            ids = removed.get(run["number"], {}).values()
            runs.append(
                IndexedRun(run["name"], run["number"], run["content"], run["n_docs"], len(ids), hash_ids(list(ids)))
            )
        return runs

    def add(self, name: str, docs: Path, settings: Settings) -> Added:
        """Add the documents of a folder as one run, all of them or none."""
        with self._lock_for_writing():
            check_settings(str(self.place), self.read_settings(), settings)
            known = [run for run in self.list_runs() if run.name == name]
            if known:
                return check_same_run(known[0], docs, settings)
            number = self._get_next_number()
            partial = self.place / PARTIAL
            partial.mkdir()
            n_docs, content = _write_run(partial, name, number, sketch_docs(docs, settings), settings)
            (self.place / "runs").mkdir(exist_ok=True)
            _publish(partial, self.place / "runs" / f"{number:08d}-{name}")
            return Added(IndexedRun(name, number, content, n_docs, 0, ""), is_new=True)

    def list_removed_ids(self) -> set[str]:
        """Return the ids of all documents that have been removed."""
        return {doc_id for rows in self._read_removed().values() for doc_id in rows.values()}

    def remove(self, ids: Sequence[str]) -> list[str]:
        """Remove documents from every run. Return the ids that were in the index."""
        wanted, rows = pa.array(sorted(set(ids)), pa.string()), list[tuple[int, int, str]]()
        if self.read_settings() is None:
            return []
        with self._lock_for_writing():
            removed, keys = self._read_removed(), sort_wanted(make_id_keys(wanted))
            for number, folder in self._list_run_folders().items():
                mapped = MappedRun(folder, removed.get(number, {}))
                pairs = mapped.match_ids(wanted, keys, np.ones(len(wanted), bool))
                names = wanted.take(pa.array(pairs.wanted)).to_pylist()
                rows += [(number, row, doc_id) for row, doc_id in zip(pairs.found.tolist(), names, strict=True)]
            if rows:
                partial = self.place / PARTIAL
                columns = [list(column) for column in zip(*rows, strict=True)]
                write_batches(partial, REMOVED, [pa.record_batch(columns, schema=REMOVED)])
                (self.place / "removed").mkdir(exist_ok=True)
                _publish(partial, self.place / "removed" / f"{self._get_next_number():08d}.arrow")
            for number, gone in self._read_removed().items():  # all of them: an earlier removal may have been killed
                MappedRun(self._list_run_folders()[number], gone).scrub()
        return sorted({doc_id for _, _, doc_id in rows})

    def query(
        self, runs: Sequence[IndexedRun], sketches: Sketches, settings: Settings, min_jaccard: float
    ) -> SeenDocuments:
        """Return which documents these runs contain, the earliest run first."""
        folders, removed = self._list_run_folders(), self._read_removed()
        seen, names = make_empty_answer(len(sketches.ids)), dict[int, str]()
        ids, digests = sort_wanted(make_id_keys(sketches.ids)), sort_wanted(make_digest_keys(sketches.digests))
        keys = minhash.compute_band_keys(sketches.signatures, settings.n_bands, settings.n_rows)
        bands = [sort_wanted(column) for column in np.ascontiguousarray(keys.T)]
        is_open = np.ones(len(sketches.ids), bool)  # documents without an answer so far
        for run in sorted(runs, key=lambda run: run.number):
            if not is_open.any():
                break
            if run.number not in folders:
                raise UserError(
                    f"dedupe.index: run {run.name} is no longer in {self.place}", "no such run", "add it again"
                )
            mapped = MappedRun(folders[run.number], removed.get(run.number, {}))
            is_open[mapped.match_ids(sketches.ids, ids, is_open).wanted] = (
                False  # it is in this run itself, so later runs do not count
            )
            exact = mapped.match_digests(sketches.digests, digests, is_open)
            is_rest = is_open.copy()
            is_rest[exact.wanted] = False
            near, similarity = mapped.match_sets(sketches.shingles, bands, is_rest, min_jaccard)
            won, won_ids, values = _choose_winners(mapped, exact, near, similarity)
            seen.is_seen[won], seen.similarity[won], is_open[won] = True, values, False
            seen.is_exact[exact.wanted] = True
            names |= dict(zip(won.tolist(), won_ids, strict=True))
        return seen._replace(other_id=pa.array([names.get(row) for row in range(len(sketches.ids))], pa.string()))

    def check(self) -> list[str]:
        """Return what is wrong with the index; empty if it is intact."""
        problems: list[str] = []
        settings, removed = self.read_settings(), self._read_removed()
        if settings is None:
            return [f"{self.place} contains no index"]
        for number, folder in self._list_run_folders().items():
            mapped = MappedRun(folder, removed.get(number, {}))
            content: str = read_run(folder)["content"]
            problems += [f"{folder.name}: {problem}" for problem in mapped.find_problems(content, settings)]
        return problems

    def _list_run_folders(self) -> dict[int, Path]:
        paths = sorted(path for path in (self.place / "runs").glob("*-*") if path.is_dir())
        return {int(path.name.partition("-")[0]): path for path in paths}

    def _read_removed(self) -> dict[int, dict[int, str]]:
        """Return the removed documents: run number → row → id."""
        removed: dict[int, dict[int, str]] = {}
        for path in sorted((self.place / "removed").glob("*.arrow")):
            for row in map_batches(path).read_all().to_pylist():
                removed.setdefault(row["number"], {})[row["row"]] = row["id"]
        return removed

    def _get_next_number(self) -> int:
        removals = [int(path.stem) for path in (self.place / "removed").glob("*.arrow")]
        return 1 + max([0, *self._list_run_folders(), *removals])

    @contextmanager
    def _lock_for_writing(self) -> Generator[None]:
        with try_lock(self.place / "lock", f"dedupe.index: {self.place} is being written to"):
            partial = self.place / PARTIAL
            try:
                _clear(partial)  # left by a killed writer
                yield
            finally:
                _clear(partial)


def _write_run(partial: Path, name: str, number: int, parts: Iterable[Sketches], settings: Settings) -> tuple[int, str]:
    """Write the three files of a run; return its number of documents and its hash. Keys are spooled to one file per column, so that
    only one column is sorted at a time."""
    content = ContentHash()
    spools = [(partial / f"{i}.keys").open("wb") for i in range(settings.n_bands + BANDS)]

    def make_batches() -> Iterator[pa.RecordBatch]:
        for part in parts:
            content.update(part.ids, part.digests)
            for spool, column in zip(spools, make_key_columns(part, settings), strict=True):
                spool.write(column.tobytes())
            sets = make_sets(part.shingles)
            lists = pa.LargeListArray.from_arrays(pa.array(sets.offsets), pa.array(sets.hashes))
            yield pa.record_batch([part.ids, part.digests, lists], schema=DOCS)

    try:
        batch_docs = write_batches(partial / "docs.arrow", DOCS, make_batches())
    finally:
        for spool in spools:
            spool.close()

    def sort_spooled_keys() -> Iterator[pa.RecordBatch]:
        for spool in spools:
            keys = sort_keys(np.fromfile(spool.name, np.uint64))
            Path(spool.name).unlink()
            yield pa.record_batch([pa.array(keys.keys), pa.array(keys.rows)], schema=KEYS)

    write_batches(partial / "keys.arrow", KEYS, sort_spooled_keys())
    n_docs, digest = sum(batch_docs), content.hexdigest()
    run = {"name": name, "number": number, "content": digest, "n_docs": n_docs}
    write_json(partial / "run.json", run | {"settings": settings._asdict(), "batch_docs": batch_docs})
    repeated = MappedRun(partial, {}).find_repeated_id()
    if repeated is not None:
        raise make_duplicate_id_error(name, repeated)
    return n_docs, digest


def _choose_winners(mapped: MappedRun, exact: Pairs, near: Pairs, similarity: Any) -> tuple[Rows, list[str], Any]:
    """Return (queried row, id of the earlier document, similarity) for all documents that were seen before."""
    wanted, found = np.concatenate([exact.wanted, near.wanted]), np.concatenate([exact.found, near.found])
    values = np.concatenate([np.ones(len(exact.wanted)), similarity])
    is_exact = np.arange(len(wanted)) < len(exact.wanted)
    ids = mapped.get_ids(found)
    won = choose_pairs(wanted, np.zeros(len(wanted), np.int64), is_exact, values, ids)
    return wanted[won], ids.take(pa.array(won)).to_pylist(), values[won]


def _publish(partial: Path, final: Path) -> None:
    """Sync a file or folder to disk, then rename it: a crash of the machine leaves all of it or nothing."""
    for path in [*(partial.iterdir() if partial.is_dir() else [partial]), *([partial] if partial.is_dir() else [])]:
        _sync(path)
    partial.rename(final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clear(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
