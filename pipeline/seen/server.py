"""An index of earlier runs on a Redis server: datasketch's MinHashLSH on its own storage, what verifies its answers beside it.

    minigpt:near:lsh…        datasketch's buckets and keys; a key is the run's number (4 bytes) and the document's id
    minigpt:near:docs        key → digest and shingle set        :digest:…, :id:…   who has this text, this id
    minigpt:near:runs        name → the finished run             :members:N         the ids of run N, written before all else
    minigpt:near:unfinished  runs that are being added           :garbage           keys whose buckets are still to be cleared
    minigpt:near:lock        held by the one who writes

A run counts once it stands in `runs`, which is one transaction, made only by who still holds the lock; a document is gone once
it is gone from `docs`. Whatever a killed writer left is invisible, and cleared by the next one. Server memory: about 10 KB a
document of 300 words (14 bands). Ours: one batch, and the sets of `BLOCK_SETS` candidates. Time: some thousand documents a
second, to add and to ask. A database holds one index.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.seen import buckets
from pipeline.seen.connection import Connection
from pipeline.seen.runs import (
    Added,
    Content,
    Run,
    Seen,
    Settings,
    check_settings,
    hash_ids,
    nothing_seen,
    same_run,
    sketch_docs,
    twice,
)
from pipeline.text import minhash
from pipeline.text.columns import Fractions
from pipeline.text.matches import Pairs, choose, jaccard_between
from pipeline.text.shingles import Shingles, as_sets, select
from pipeline.text.sketches import Sketches

PREFIX = b"minigpt:near:"
DOCS, RUNS, UNFINISHED, GARBAGE = PREFIX + b"docs", PREFIX + b"runs", PREFIX + b"unfinished", PREFIX + b"garbage"
LOCK, NUMBER, SETTINGS, LSH = PREFIX + b"lock", PREFIX + b"number", PREFIX + b"settings", PREFIX + b"lsh"
BLOCK_SETS = 4_096
CHUNK = 2_048
DIGEST_BYTES = 16


class RedisIndex:
    """An `Index` in the database that `url` names."""

    def __init__(self, url: str) -> None:
        self._at = Connection(url)
        self._redis: Any = self._at.client

    def settings(self) -> Settings | None:
        with self._at.talking():
            return self._settings()

    def runs(self) -> list[Run]:
        with self._at.talking():
            return self._runs()

    def add(self, name: str, docs: Path, settings: Settings) -> Added:
        with self._at.talking(), self._at.locked(LOCK) as lock:
            self._clear_leftovers()
            check_settings(self._at.place, self._settings(), settings)
            known = [run for run in self._runs() if run.name == name]
            if known:
                return same_run(known[0], docs, settings)
            number = int(self._redis.incr(NUMBER))
            self._redis.hset(UNFINISHED, str(number), json.dumps(settings))
            try:
                n_docs, content = self._write(name, number, sketch_docs(docs, settings), settings, lock)
            except UserError:
                self._clear_leftovers()
                raise
            self._finish({"name": name, "number": number, "content": content, "n_docs": n_docs}, settings, lock)
            return Added(Run(name, number, content, n_docs, 0, ""), is_new=True)

    def remove(self, ids: Sequence[str]) -> list[str]:
        wanted, gone = sorted(set(ids)), set[str]()
        with self._at.talking(), self._at.locked(LOCK) as lock:
            numbers = self._numbers()
            for first in range(0, len(wanted), CHUNK):
                part = wanted[first : first + CHUNK]
                found = self._at.many("smembers", [_id_key(doc_id) for doc_id in part])
                here = [(int(n), doc_id) for doc_id, runs in zip(part, found, strict=True) for n in runs]
                here = [item for item in here if item[0] in numbers]
                self._forget(here, is_removal=True)
                gone |= {doc_id for _, doc_id in here}
                lock.reacquire()
            self._clear_leftovers()
        return sorted(gone)

    def query(self, runs: Sequence[Run], sketches: Sketches, settings: Settings, min_jaccard: float) -> Seen:
        ids: list[str] = sketches.ids.to_pylist()
        numbers = {run.number for run in runs}
        with self._at.talking():
            gone = numbers - self._numbers()
            if gone:
                names = ", ".join(run.name for run in runs if run.number in gone)
                raise UserError(f"near_index: {names} is gone from {self._at.place}", "no such run", "add it again")
            own = self._at.many("smembers", [_id_key(doc_id) for doc_id in ids])
            befores = [min([2**32, *({int(n) for n in found} & numbers)]) for found in own]
            exact = self._exact(sketches, numbers, befores)
            near, similarity, keys = self._near(sketches, settings, numbers, befores, min_jaccard)
        found = [key for _, key in exact] + [keys[at] for at in near.found.tolist()]
        wanted = np.concatenate([np.array([row for row, _ in exact], np.int64), near.wanted])
        values = np.concatenate([np.ones(len(exact)), similarity])
        is_exact = np.arange(len(wanted)) < len(exact)
        names = pa.array([key[4:].decode() for key in found], pa.string())
        won = choose(wanted, np.array([_number(key) for key in found], np.int64), is_exact, values, names)
        seen, rows = nothing_seen(len(ids)), wanted[won]
        seen.is_seen[rows], seen.is_exact[rows], seen.similarity[rows] = True, is_exact[won], values[won]
        other = dict(zip(rows.tolist(), names.take(pa.array(won)).to_pylist(), strict=True))
        return seen._replace(other_id=pa.array([other.get(row) for row in range(len(ids))], pa.string()))

    def check(self) -> list[str]:
        with self._at.talking():
            settings = self._settings()
            if settings is None:
                return [f"{self._at.place} holds no index"]
            problems: list[str] = []
            for run in self._runs():
                n_bad = sum(self._count_bad(run, ids, settings) for ids in self._members(run.number))
                n_docs = self._redis.scard(_members_key(run.number))
                if n_bad or n_docs != run.n_docs:
                    problems.append(
                        f"run {run.name}: {n_docs:,} documents of {run.n_docs:,}, {n_bad:,} of them not whole"
                    )
            return problems

    def _count_bad(self, run: Run, ids: list[str], settings: Settings) -> int:
        """Documents whose set or whose buckets are not what they must be."""
        gone = {doc_id.decode() for doc_id in self._redis.smembers(_removed_key(run.number))}
        keys = [_key(run.number, doc_id) for doc_id in ids if doc_id not in gone]
        if not keys:
            return 0
        values: list[bytes | None] = self._redis.hmget(DOCS, keys)
        sets = _sets(values)
        permuted = minhash.permutations(settings.n_bands * settings.n_rows, settings.seed)
        bands = buckets.band_bytes(minhash.signatures(sets, permuted), settings)
        stored: Any = self._lsh(settings).keys.getmany(*keys)
        return sum(
            value is None or found != ([band[i] for band in bands] if size else [])
            for i, (value, found, size) in enumerate(zip(values, stored, np.diff(sets.offsets), strict=True))
        )

    def _settings(self) -> Settings | None:
        found = self._redis.get(SETTINGS)
        return None if found is None else Settings(*json.loads(found))

    def _numbers(self) -> set[int]:
        return {json.loads(value)["number"] for value in self._redis.hvals(RUNS)}

    def _runs(self) -> list[Run]:
        found: list[Run] = []
        for value in self._redis.hvals(RUNS):
            run = json.loads(value)
            removed = [doc_id.decode() for doc_id in self._redis.smembers(_removed_key(run["number"]))]
            found.append(Run(**run, n_removed=len(removed), removed=hash_ids(removed)))
        return sorted(found, key=lambda run: run.number)

    def _write(
        self, name: str, number: int, parts: Iterable[Sketches], settings: Settings, lock: Any
    ) -> tuple[int, str]:
        """All of a run but its name in `runs`: nobody sees it yet."""
        lsh, content, n_docs = self._lsh(settings), Content(), 0
        for part in parts:
            ids: list[str] = part.ids.to_pylist()
            fresh = self._at.many("sadd", [_members_key(number)] * len(ids), ids)  # first: what to clear after a kill
            if not all(fresh):
                raise twice(name, ids[fresh.index(0)])
            digests: list[bytes] = part.digests.to_pylist()
            keys = [_key(number, doc_id) for doc_id in ids]
            sets = as_sets(part.shingles)
            if keys:
                self._redis.hset(DOCS, mapping=dict(zip(keys, _values(digests, sets), strict=True)))
            self._at.many("sadd", [_digest_key(digest) for digest in digests], keys)
            self._at.many("sadd", [_id_key(doc_id) for doc_id in ids], [number] * len(ids))
            has_shingles = np.flatnonzero(np.diff(sets.offsets))  # who has none is like nobody
            buckets.insert(lsh, keys, part.signatures, has_shingles, settings)
            content.update(part.ids, part.digests)
            n_docs += len(ids)
            lock.reacquire()
        return n_docs, content.hexdigest()

    def _finish(self, run: dict[str, Any], settings: Settings, lock: Any) -> None:
        """The run counts from here on. Fails when the lock went to another in the meantime."""
        with self._redis.pipeline() as pipe:
            pipe.watch(LOCK)
            if not lock.owned():
                raise UserError(f"near_index: another writer took {self._at.place}", "a stall", "add the run again")
            pipe.multi()
            pipe.setnx(SETTINGS, json.dumps(settings))
            pipe.hset(RUNS, run["name"], json.dumps(run))
            pipe.hdel(UNFINISHED, str(run["number"]))
            pipe.execute()

    def _exact(self, sketches: Sketches, numbers: set[int], befores: list[int]) -> list[tuple[int, bytes]]:
        found = self._at.many("smembers", [_digest_key(digest) for digest in sketches.digests.to_pylist()])
        return [
            (row, key)
            for row, keys in enumerate(found)
            for key in keys
            if _number(key) in numbers and _number(key) < befores[row]
        ]

    def _near(
        self, sketches: Sketches, settings: Settings, numbers: set[int], befores: list[int], min_jaccard: float
    ) -> tuple[Pairs, Fractions, list[bytes]]:
        """Pairs of a row and a place in the list of keys, at or above the threshold; how alike; the keys."""
        has_shingles = np.flatnonzero(np.diff(sketches.shingles.offsets))
        met = {
            (row, key)
            for row, bucket in buckets.candidates(self._lsh(settings), sketches.signatures, has_shingles, settings)
            for key in bucket
            if _number(key) in numbers and _number(key) < befores[row]
        }
        keys = sorted({key for _, key in met})
        places = {key: i for i, key in enumerate(keys)}
        pairs = Pairs(np.array([row for row, _ in met], np.int64), np.array([places[key] for _, key in met], np.int64))
        some, some_at = np.unique(pairs.wanted, return_inverse=True)
        new, values = as_sets(select(sketches.shingles, some)), np.zeros(len(pairs.wanted))
        for first in range(0, len(keys), BLOCK_SETS):
            mine = np.flatnonzero((pairs.found >= first) & (pairs.found < first + BLOCK_SETS))
            old = _sets(self._redis.hmget(DOCS, keys[first : first + BLOCK_SETS]))
            values[mine] = jaccard_between(new, old, Pairs(some_at[mine], pairs.found[mine] - first))
        is_alike = values >= min_jaccard
        return Pairs(pairs.wanted[is_alike], pairs.found[is_alike]), values[is_alike], keys

    def _forget(self, docs: Sequence[tuple[int, str]], *, is_removal: bool) -> None:
        """Takes documents out of sight in one transaction; their buckets become garbage."""
        if not docs:
            return
        keys = [_key(number, doc_id) for number, doc_id in docs]
        values: list[bytes | None] = self._redis.hmget(DOCS, keys)
        with self._redis.pipeline() as pipe:
            pipe.hdel(DOCS, *keys)
            pipe.sadd(GARBAGE, *keys)
            for (number, doc_id), key, value in zip(docs, keys, values, strict=True):
                pipe.srem(_id_key(doc_id), number)
                if value is not None:
                    pipe.srem(_digest_key(value[:DIGEST_BYTES]), key)
                if is_removal:
                    pipe.sadd(_removed_key(number), doc_id)
            pipe.execute()

    def _clear_leftovers(self) -> None:
        """What writers left: documents of runs that were never finished, buckets of documents that are gone."""
        settings = self._settings()
        if settings is not None:
            self._sweep(settings)
        for number, stored in self._redis.hgetall(UNFINISHED).items():
            for ids in self._members(int(number)):
                self._forget([(int(number), doc_id) for doc_id in ids], is_removal=False)
            self._sweep(Settings(*json.loads(stored)))
            self._redis.delete(_members_key(int(number)))
            self._redis.hdel(UNFINISHED, number)

    def _sweep(self, settings: Settings) -> None:
        while keys := self._redis.srandmember(GARBAGE, CHUNK):
            buckets.drop(self._lsh(settings), keys)
            self._redis.srem(GARBAGE, *keys)

    def _members(self, number: int) -> Iterator[list[str]]:
        part: list[str] = []
        for doc_id in self._redis.sscan_iter(_members_key(number), count=CHUNK):
            part.append(doc_id.decode())
            if len(part) == CHUNK:
                yield part
                part = []
        yield part

    def _lsh(self, settings: Settings) -> Any:
        return buckets.open_buckets(self._at.pool, LSH, settings)


def _key(number: int, doc_id: str) -> bytes:
    return struct.pack(">I", number) + doc_id.encode()


def _number(key: bytes) -> int:
    return struct.unpack_from(">I", key)[0]


def _id_key(doc_id: str) -> bytes:
    return PREFIX + b"id:" + doc_id.encode()


def _digest_key(digest: bytes) -> bytes:
    return PREFIX + b"digest:" + digest


def _members_key(number: int) -> bytes:
    return PREFIX + b"members:%d" % number


def _removed_key(number: int) -> bytes:
    return PREFIX + b"removed:%d" % number


def _values(digests: Sequence[bytes], sets: Shingles) -> list[bytes]:
    """What `docs` holds of each document: its digest, then its set, 8 bytes a shingle."""
    data, cuts = sets.hashes.astype("<u8").tobytes(), (sets.offsets * 8).tolist()
    return [digest + data[cuts[i] : cuts[i + 1]] for i, digest in enumerate(digests)]


def _sets(values: Sequence[bytes | None]) -> Shingles:
    """The sets of values of `docs`; of a document that is gone, the empty set, which is like nobody's."""
    parts = [np.frombuffer((value or b"")[DIGEST_BYTES:], "<u8") for value in values]
    offsets = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
    return Shingles(np.concatenate([np.zeros(0, np.uint64), *parts]), offsets)
