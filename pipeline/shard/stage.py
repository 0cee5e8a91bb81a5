"""Tokenize documents into shards: one stream of ids per split as Arrow IPC to be memory-mapped, a table of documents, a manifest.

A document goes to train or val by a hash of its id, never to both. Within a split the documents follow each other in a random
order given by a hash of the seed and the id, each after its <|bos|>: when documents are added or removed, the rest keep their
order. Memory: the rows of one shard while encoding, a few runs while sorting: 0.7 GB for a corpus of any size. Disk: three
times the ids. Time: linear; reading and writing cost more than encoding.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import hashlib
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics, write_json
from pipeline.frame.progress import Bar
from pipeline.shard.params import Shard
from pipeline.shard.split import compute_order_keys, is_val
from pipeline.storage.arrow import TokenFile, append_stream, read_stream
from pipeline.storage.sort import Sorter
from pipeline.storage.tables import TOKEN_DOCS, TableWriter, count_docs, list_shards, read_training_shard
from pipeline.text.encode import Encode, check_same, make_fast_encoder
from pipeline.workers.results import map_files

SPLITS = ("train", "val")
SAMPLE_DOCS = 64  # of each shard: every run checks on them that the fast encoder equals the tokenizer
ENCODED = pa.schema(
    [
        ("key", pa.uint64()),
        *((name, pa.string()) for name in ("id", "source", "license", "title")),
        ("n_bytes", pa.int64()),
        ("ids", pa.large_list(pa.uint32())),
    ]
)


def run(params: Shard, *, docs: Path, tokenizer: Path, scratch: Path, out: Path) -> Metrics:
    """Write token files, docs.parquet and manifest.json. Raises `UserError` if a split would be empty."""
    paths, reader = list_shards(docs), Tokenizer.load(tokenizer)
    n_docs = count_docs(docs)
    if n_docs == 0:
        raise UserError(
            "shard: there is nothing to tokenize", f"no documents in {docs}", "loosen the filter's thresholds"
        )
    encode = partial(encode_shard, seed=params.seed)
    extras = [tokenizer / "tokenizer.json"]
    encoded = map_files(encode, paths, results=scratch / "encoded", settings=str(params.seed), extras=extras)
    sorters = {split: Sorter(scratch / split, ENCODED, ["key", "id"]) for split in SPLITS}
    with Bar("shard", len(paths), "shards") as bar:
        for path in encoded:
            for batch in read_stream(path):
                is_heldout = is_val(batch.column("id").to_pylist(), params.val_frac, params.seed)
                for split, mask in (("train", ~is_heldout), ("val", is_heldout)):
                    sorters[split].write(batch.filter(pa.array(mask)))
            bar.advance()
    dtype = pa.uint16() if reader.vocab_size <= 1 << 16 else pa.uint32()
    manifest: dict[str, Any] = {
        "vocab_size": reader.vocab_size,
        "tokenizer_sha256": reader.sha256,
        "dtype": str(dtype),
        "bos_id": reader.get_special_id("bos"),
        "seed": params.seed,
    }
    with TableWriter(out / "docs.parquet", TOKEN_DOCS) as table:
        for split, sorter in sorters.items():
            manifest[split] = write_split(out, split, sorter, table, dtype, params.file_tokens)
            if manifest[split]["n_docs"] == 0:
                raise UserError(
                    f"shard: no document falls into {split}",
                    f"{n_docs} documents, shard.val_frac = {params.val_frac}",
                    "add documents (or split them into smaller ones with split_on), or change shard.val_frac",
                )
    write_json(out / "manifest.json", manifest)
    totals = {
        f"{split}_{what}": manifest[split][what] for split in SPLITS for what in ("n_docs", "n_tokens", "n_bytes")
    }
    n_bytes, n_tokens = (totals[f"train_{what}"] + totals[f"val_{what}"] for what in ("n_bytes", "n_tokens"))
    return {**totals, "bytes_per_token": n_bytes / n_tokens, "vocab_size": reader.vocab_size}


def encode_shard(path: Path, result: Path, tokenizer: Path, *, seed: int) -> None:
    """Write the ids of each document after its <|bos|>, with its sort key. Runs in a worker."""
    reader, encode = load_reader(tokenizer.read_text(encoding="utf-8"))
    bos = reader.get_special_id("bos")
    append_stream(result, ENCODED.empty_table())
    is_checked = False
    for batch in read_training_shard(path, ["id", "text", "source", "license", "title"]):
        texts = batch.column("text").to_pylist()
        if not is_checked:
            check_same(encode, reader.encode_batch, texts[:SAMPLE_DOCS])
            is_checked = True
        flat, lengths = encode(texts)
        ends = np.append(0, np.cumsum(lengths))
        ids = pa.array(np.insert(flat, ends[:-1], bos), pa.uint32())
        columns = {
            "key": pa.array(compute_order_keys(batch.column("id").to_pylist(), seed)),
            **{name: batch.column(name) for name in ("id", "source", "license", "title")},
            "n_bytes": pc.binary_length(batch.column("text")).cast(pa.int64()),
            "ids": pa.LargeListArray.from_arrays(pa.array(ends + np.arange(len(ends))), ids),
        }
        append_stream(result, pa.table(columns, ENCODED))


@lru_cache(maxsize=1)
def load_reader(tokenizer_json: str) -> tuple[Tokenizer, Encode]:
    """Return the tokenizer and its fast encoder, made once per process: making them takes as long as encoding 20 MB."""
    return Tokenizer(tokenizer_json), make_fast_encoder(tokenizer_json)


def write_split(
    out: Path, split: str, sorter: Sorter, table: TableWriter, dtype: pa.DataType, file_tokens: int
) -> dict[str, Any]:
    """Write the token files of one split and its rows of the table of documents. Return its part of the manifest."""
    files: list[TokenFile] = []
    n_tokens = n_docs = n_bytes = 0
    for part in sorter.read():
        ids = part.column("ids").combine_chunks()
        lengths = pc.list_value_length(ids).to_numpy()
        starts = n_tokens + np.cumsum(lengths) - lengths
        file_of = (starts + lengths - 1) // file_tokens  # a document is never split between files
        for number in np.unique(file_of):
            if number >= len(files):
                for file in files[-1:]:
                    file.close()
                files.append(TokenFile(out / f"{split}-{len(files):05d}.arrow", dtype))
            files[-1].write(ids.filter(pa.array(file_of == number)).flatten())
        columns = {"split": pa.repeat(split, len(part)), "start": pa.array(starts), "n_tokens": pa.array(lengths)}
        table.write(pa.table({**{name: part.column(name) for name in part.column_names if name != "ids"}, **columns}))
        n_tokens, n_docs = n_tokens + int(lengths.sum()), n_docs + len(part)
        n_bytes += pc.sum(part.column("n_bytes")).as_py()
    for file in files[-1:]:
        file.close()
    listed = [{"name": file.path.name, "n_tokens": file.n_tokens, "sha256": _sha256(file.path)} for file in files]
    return {"n_tokens": n_tokens, "n_docs": n_docs, "n_bytes": n_bytes, "files": listed}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
