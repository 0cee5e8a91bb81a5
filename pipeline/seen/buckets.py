"""datasketch's MinHashLSH on Redis, many documents at a time, through its public storages.

In: signatures as columns, keys as bytes. Out: the same answers as `MinHashLSH.query` and `remove`, document by document (a test
compares), in one journey a band instead of one a document and band. Nothing is pickled: `prepickle=False`, keys are bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasketch
import numpy as np

from pipeline.errors import UserError
from pipeline.seen.runs import Settings
from pipeline.text.columns import Rows
from pipeline.text.minhash import Signatures


def open_buckets(pool: Any, basename: bytes, settings: Settings) -> datasketch.MinHashLSH:
    """datasketch's index below `basename`, made if it is not there."""
    if settings.n_bands < 2:
        raise UserError(
            "dedupe.n_bands: too few for a Redis index", str(settings.n_bands), "use two or more, or a folder"
        )
    config = {"type": "redis", "basename": basename, "redis": {"connection_pool": pool}}
    shape = (settings.n_bands, settings.n_rows)
    return datasketch.MinHashLSH(num_perm=shape[0] * shape[1], params=shape, storage_config=config, prepickle=False)


def insert(
    lsh: datasketch.MinHashLSH, keys: Sequence[bytes], signed: Signatures, rows: Rows, settings: Settings
) -> None:
    """Files `rows` of the signatures under their keys. One transaction for the keys, then one a band."""
    with lsh.insertion_session() as session:
        for i in rows.tolist():
            signature = datasketch.LeanMinHash(seed=settings.seed, hashvalues=signed[i], scheme=settings.scheme)
            session.insert(keys[i], signature, check_duplication=False)


def candidates(
    lsh: datasketch.MinHashLSH, signed: Signatures, rows: Rows, settings: Settings
) -> Iterator[tuple[int, set[bytes]]]:
    """A row and the keys that it shares a band with; a row comes once a band."""
    storages: list[Any] = lsh.hashtables
    for storage, wanted in zip(storages, band_bytes(signed[rows], settings), strict=True):
        buckets: list[set[bytes]] = storage.getmany(*wanted) if wanted else []
        yield from zip(rows.tolist(), buckets, strict=True)


def drop(lsh: datasketch.MinHashLSH, keys: Sequence[bytes]) -> None:
    """Takes keys out of their buckets; a key that is half in, or not at all, is no error. The keys' own list goes last."""
    known: Any = lsh.keys
    bands: list[list[bytes]] = known.getmany(*keys)
    storages: list[Any] = lsh.hashtables
    for i, storage in enumerate(storages):
        mine = [(values[i], key) for values, key in zip(bands, keys, strict=True) if values]
        for band, key in mine:
            storage.remove_val(band, key, buffer=True)
        storage.empty_buffer()
        some = sorted({band for band, _ in mine})
        left = storage.getmany(*some) if some else []
        empty = [band for band, members in zip(some, left, strict=True) if not members]
        if empty:
            storage.remove(*empty)
    known.remove(*keys)


def band_bytes(signed: Signatures, settings: Settings) -> list[list[bytes]]:
    """For each band the bytes under which datasketch files each row: its values, most significant byte first."""
    swapped = np.ascontiguousarray(signed).byteswap()
    cuts = [(i * settings.n_rows, (i + 1) * settings.n_rows) for i in range(settings.n_bands)]
    return [[row.tobytes() for row in swapped[:, start:stop]] for start, stop in cuts]
