"""An index of earlier runs in a folder: Arrow files that are mapped, never loaded.

    runs/00000001-NAME/run.json      the run's number, name, settings, hash, and how its files are cut
    runs/00000001-NAME/docs.arrow    id, digest, shingle set of each document, in the order they came
    runs/00000001-NAME/keys.arrow    sorted keys and their rows: one batch for ids, one for digests, one a band
    removed/00000002.arrow           which rows of which run were taken out; a new file each time
    lock                             held by the writing process

A run is written beside and renamed when it is whole and on the disk. Nothing is changed later, but that removing, once it has
marked the rows, overwrites their shingle sets with zeros. What a killed writer left is cleared by the next one.

Memory: adding takes one batch of documents and 32 bytes a document while keys are sorted; asking takes the shingle sets of one
block of candidates. Disk: 16 + 12 · (bands + 2) bytes a document, and 8 a shingle. Time: a binary search a document, band and run.
The candidates are those of datasketch's MinHashLSH with the same bands: a test compares. Signatures follow from the sets.
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
from pipeline.dedupe.minhash.matches import Pairs, choose, digest_keys, id_keys, sort_keys, sort_wanted
from pipeline.dedupe.minhash.shingles import as_sets
from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.seen.mapped import BANDS, DOCS, KEYS, MappedRun, key_columns, read_run
from pipeline.dedupe.seen.runs import (
    Added,
    Content,
    IndexedRun,
    SeenDocuments,
    Settings,
    check_settings,
    hash_ids,
    nothing_seen,
    same_run,
    sketch_docs,
    twice,
)
from pipeline.frame.errors import UserError
from pipeline.frame.locks import try_lock
from pipeline.frame.metrics import write_json
from pipeline.storage.arrow import map_batches, write_batches
from pipeline.text.columns import Rows

PARTIAL = ".partial"
REMOVED = pa.schema([("number", pa.int64()), ("row", pa.int64()), ("id", pa.string())])


class FolderIndex:
    """The index below `place`. All methods raise `UserError` for what the user can fix."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def settings(self) -> Settings | None:
        """Return the settings that the index was filled with, or None if nothing was ever added."""
        for folder in self._run_folders().values():
            return Settings(**read_run(folder)["settings"])
        return None

    def runs(self) -> list[IndexedRun]:
        """Return the runs in the order in which they were added."""
        removed = self._removed()
        found: list[IndexedRun] = []
        for path in self._run_folders().values():
            run = read_run(path)
            ids = removed.get(run["number"], {}).values()
            found.append(
                IndexedRun(run["name"], run["number"], run["content"], run["n_docs"], len(ids), hash_ids(list(ids)))
            )
        return found

    def add(self, name: str, docs: Path, settings: Settings) -> Added:
        """Add the documents of a folder as one run, all of them or none."""
        with self._writing():
            check_settings(str(self.place), self.settings(), settings)
            known = [run for run in self.runs() if run.name == name]
            if known:
                return same_run(known[0], docs, settings)
            number = self._next_number()
            partial = self.place / PARTIAL
            partial.mkdir()
            n_docs, content = _write_run(partial, name, number, sketch_docs(docs, settings), settings)
            (self.place / "runs").mkdir(exist_ok=True)
            _settle(partial, self.place / "runs" / f"{number:08d}-{name}")
            return Added(IndexedRun(name, number, content, n_docs, 0, ""), is_new=True)

    def remove(self, ids: Sequence[str]) -> list[str]:
        """Remove documents from every run. Return the ids that were in the index."""
        wanted, rows = pa.array(sorted(set(ids)), pa.string()), list[tuple[int, int, str]]()
        if self.settings() is None:
            return []
        with self._writing():
            removed, keys = self._removed(), sort_wanted(id_keys(wanted))
            for number, folder in self._run_folders().items():
                mapped = MappedRun(folder, removed.get(number, {}))
                pairs = mapped.meet_ids(wanted, keys, np.ones(len(wanted), bool))
                names = wanted.take(pa.array(pairs.wanted)).to_pylist()
                rows += [(number, row, doc_id) for row, doc_id in zip(pairs.found.tolist(), names, strict=True)]
            if rows:
                partial = self.place / PARTIAL
                columns = [list(column) for column in zip(*rows, strict=True)]
                write_batches(partial, REMOVED, [pa.record_batch(columns, schema=REMOVED)])
                (self.place / "removed").mkdir(exist_ok=True)
                _settle(partial, self.place / "removed" / f"{self._next_number():08d}.arrow")
            for number, gone in self._removed().items():  # all of them: an earlier removal may have been killed
                MappedRun(self._run_folders()[number], gone).scrub()
        return sorted({doc_id for _, _, doc_id in rows})

    def query(
        self, runs: Sequence[IndexedRun], sketches: Sketches, settings: Settings, min_jaccard: float
    ) -> SeenDocuments:
        """Return which documents these runs contain, the earliest run first."""
        folders, removed = self._run_folders(), self._removed()
        seen, names = nothing_seen(len(sketches.ids)), dict[int, str]()
        ids, digests = sort_wanted(id_keys(sketches.ids)), sort_wanted(digest_keys(sketches.digests))
        keys = minhash.band_keys(sketches.signatures, settings.n_bands, settings.n_rows)
        bands = [sort_wanted(column) for column in np.ascontiguousarray(keys.T)]
        is_open = np.ones(len(sketches.ids), bool)  # those without an answer so far
        for run in sorted(runs, key=lambda run: run.number):
            if not is_open.any():
                break
            if run.number not in folders:
                raise UserError(
                    f"dedupe.index: run {run.name} is no longer in {self.place}", "no such run", "add it again"
                )
            mapped = MappedRun(folders[run.number], removed.get(run.number, {}))
            is_open[mapped.meet_ids(sketches.ids, ids, is_open).wanted] = False  # what is here has no earlier ones left
            exact = mapped.meet_digests(sketches.digests, digests, is_open)
            is_rest = is_open.copy()
            is_rest[exact.wanted] = False
            near, similarity = mapped.meet_sets(sketches.shingles, bands, is_rest, min_jaccard)
            won, won_ids, values = _winners(mapped, exact, near, similarity)
            seen.is_seen[won], seen.similarity[won], is_open[won] = True, values, False
            seen.is_exact[exact.wanted] = True
            names |= dict(zip(won.tolist(), won_ids, strict=True))
        return seen._replace(other_id=pa.array([names.get(row) for row in range(len(sketches.ids))], pa.string()))

    def check(self) -> list[str]:
        """Return what is wrong with the index; empty if it is intact."""
        problems: list[str] = []
        settings, removed = self.settings(), self._removed()
        if settings is None:
            return [f"{self.place} holds no index"]
        for number, folder in self._run_folders().items():
            mapped = MappedRun(folder, removed.get(number, {}))
            content: str = read_run(folder)["content"]
            problems += [f"{folder.name}: {problem}" for problem in mapped.problems(content, settings)]
        return problems

    def _run_folders(self) -> dict[int, Path]:
        paths = sorted(path for path in (self.place / "runs").glob("*-*") if path.is_dir())
        return {int(path.name.partition("-")[0]): path for path in paths}

    def _removed(self) -> dict[int, dict[int, str]]:
        """Run number → row → id of the documents taken out."""
        found: dict[int, dict[int, str]] = {}
        for path in sorted((self.place / "removed").glob("*.arrow")):
            for row in map_batches(path).read_all().to_pylist():
                found.setdefault(row["number"], {})[row["row"]] = row["id"]
        return found

    def _next_number(self) -> int:
        removals = [int(path.stem) for path in (self.place / "removed").glob("*.arrow")]
        return 1 + max([0, *self._run_folders(), *removals])

    @contextmanager
    def _writing(self) -> Generator[None]:
        with try_lock(self.place / "lock", f"dedupe.index: {self.place} is being written to"):
            partial = self.place / PARTIAL
            try:
                _clear(partial)  # of a writer that was killed
                yield
            finally:
                _clear(partial)


def _write_run(partial: Path, name: str, number: int, parts: Iterable[Sketches], settings: Settings) -> tuple[int, str]:
    """The three files of a run. Keys are spooled a column a file, so that only one column is sorted at a time."""
    content = Content()
    spools = [(partial / f"{i}.keys").open("wb") for i in range(settings.n_bands + BANDS)]

    def batches() -> Iterator[pa.RecordBatch]:
        for part in parts:
            content.update(part.ids, part.digests)
            for spool, column in zip(spools, key_columns(part, settings), strict=True):
                spool.write(column.tobytes())
            sets = as_sets(part.shingles)
            lists = pa.LargeListArray.from_arrays(pa.array(sets.offsets), pa.array(sets.hashes))
            yield pa.record_batch([part.ids, part.digests, lists], schema=DOCS)

    try:
        batch_docs = write_batches(partial / "docs.arrow", DOCS, batches())
    finally:
        for spool in spools:
            spool.close()

    def sorted_keys() -> Iterator[pa.RecordBatch]:
        for spool in spools:
            keys = sort_keys(np.fromfile(spool.name, np.uint64))
            Path(spool.name).unlink()
            yield pa.record_batch([pa.array(keys.keys), pa.array(keys.places)], schema=KEYS)

    write_batches(partial / "keys.arrow", KEYS, sorted_keys())
    n_docs, digest = sum(batch_docs), content.hexdigest()
    run = {"name": name, "number": number, "content": digest, "n_docs": n_docs}
    write_json(partial / "run.json", run | {"settings": settings._asdict(), "batch_docs": batch_docs})
    repeated = MappedRun(partial, {}).repeated_id()
    if repeated is not None:
        raise twice(name, repeated)
    return n_docs, digest


def _winners(mapped: MappedRun, exact: Pairs, near: Pairs, similarity: Any) -> tuple[Rows, list[str], Any]:
    """Row asked about, id of the document that counts, similarity: one of each for all who were seen."""
    wanted, found = np.concatenate([exact.wanted, near.wanted]), np.concatenate([exact.found, near.found])
    values = np.concatenate([np.ones(len(exact.wanted)), similarity])
    is_exact = np.arange(len(wanted)) < len(exact.wanted)
    ids = mapped.ids_of(found)
    won = choose(wanted, np.zeros(len(wanted), np.int64), is_exact, values, ids)
    return wanted[won], ids.take(pa.array(won)).to_pylist(), values[won]


def _settle(partial: Path, final: Path) -> None:
    """On the disk first, then under its name: a crash of the machine leaves all of it or nothing."""
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
