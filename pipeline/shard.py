"""Documents → token shards: one stream of ids a split, memory-mapped Arrow IPC, with a table of documents and a manifest.

A document goes to train or val by a hash of its id, never to both. Within a split the documents follow each other in a seeded
random order, each behind its <|bos|>. Memory: the ids of the whole corpus once (2 bytes a token), plus one batch of texts.
Time: linear; reading and writing cost more than encoding.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.tokenizer import Tokenizer
from pipeline.errors import UserError
from pipeline.params import Shard
from pipeline.progress import Bar
from pipeline.stage import Metrics, write_json
from pipeline.tables import TOKEN_DOCS, count_docs, read_batches, write_table, write_tokens
from pipeline.text.encode import check_same, fast_encoder
from pipeline.text.split import is_val

SAMPLE_DOCS = 64  # on which the fast encoder is proved equal to the tokenizer at every run


def run(params: Shard, *, docs: Path, tokenizer: Path, out: Path) -> Metrics:
    """Raises: `UserError` when a split would be empty."""
    reader = Tokenizer.load(tokenizer)
    ids, table = encode_docs(docs, reader, (tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    held_out = is_val(table.column("id").to_pylist(), params.val_frac, params.seed)
    dtype = pa.uint16() if reader.vocab_size <= 1 << 16 else pa.uint32()
    manifest: dict[str, Any] = {
        "vocab_size": reader.vocab_size,
        "tokenizer_sha256": reader.sha256,
        "dtype": str(dtype),
        "bos_id": reader.special("bos"),
        "seed": params.seed,
    }
    rows: list[pa.Table] = []
    for number, (split, mask) in enumerate((("train", ~held_out), ("val", held_out))):
        if not mask.any():
            raise UserError(
                f"shard: no document falls into {split}",
                f"{table.num_rows} documents, shard.val_frac = {params.val_frac}",
                "bring more documents (or cut them smaller with split_on), or change shard.val_frac",
            )
        order = np.random.Generator(np.random.PCG64([params.seed, number])).permutation(np.flatnonzero(mask))
        rows.append(_lay_out(table.take(order), split))
        manifest[split] = _write_split(out, split, ids, table, order, dtype, params.file_tokens)
    write_table(out / "docs.parquet", pa.concat_tables(rows).select(TOKEN_DOCS.names).cast(TOKEN_DOCS))
    write_json(out / "manifest.json", manifest)
    totals = {
        f"{split}_{what}": manifest[split][what]
        for split in ("train", "val")
        for what in ("n_docs", "n_tokens", "n_bytes")
    }
    n_bytes, n_tokens = (totals[f"train_{what}"] + totals[f"val_{what}"] for what in ("n_bytes", "n_tokens"))
    return {**totals, "bytes_per_token": n_bytes / n_tokens, "vocab_size": reader.vocab_size}


def encode_docs(docs: Path, reader: Tokenizer, tokenizer_json: str) -> tuple[NDArray[np.uint32], pa.Table]:
    """All ids (each document behind its <|bos|>), and a row a document with its offset there: `at`, `n_tokens`, `n_bytes`."""
    encode = fast_encoder(tokenizer_json)
    bos = reader.special("bos")
    pieces: list[NDArray[np.uint32]] = []
    tables: list[pa.RecordBatch] = []
    with Bar("shard", count_docs(docs), "docs") as bar:
        for batch in read_batches(docs, ["id", "text", "source", "licence", "title"]):
            texts = batch.column("text").to_pylist()
            if not texts:
                continue
            if not pieces:
                check_same(encode, reader.encode_batch, texts[:SAMPLE_DOCS])
            flat, lengths = encode(texts)
            pieces.append(np.insert(flat, np.cumsum(lengths) - lengths, bos))
            sizes = pc.cast(pc.binary_length(batch.column("text")), pa.int64())
            tables.append(
                batch.drop_columns(["text"])
                .append_column("n_tokens", pa.array(lengths + 1))
                .append_column("n_bytes", sizes)
            )
            bar.advance(batch.num_rows)
    if not pieces:
        raise UserError("shard: there is nothing to shard", f"no documents in {docs}", "loosen the filter's thresholds")
    table = pa.Table.from_batches(tables)
    n_tokens = table.column("n_tokens").to_numpy()
    return np.concatenate(pieces), table.append_column("at", pa.array(np.cumsum(n_tokens) - n_tokens))


def _lay_out(table: pa.Table, split: str) -> pa.Table:
    n_tokens = table.column("n_tokens").to_numpy()
    starts = pa.array(np.cumsum(n_tokens) - n_tokens)
    return table.append_column("start", starts).append_column("split", pa.array([split] * table.num_rows))


def _write_split(
    out: Path,
    split: str,
    ids: NDArray[np.uint32],
    table: pa.Table,
    order: NDArray[np.int64],
    dtype: pa.DataType,
    size: int,
) -> dict[str, Any]:
    at, lengths = table.column("at").to_numpy()[order], table.column("n_tokens").to_numpy()[order]
    files: list[dict[str, Any]] = []
    file_of = (np.cumsum(lengths) - 1) // size  # a document lies in one file
    for file in np.unique(file_of):
        path = out / f"{split}-{len(files):05d}.arrow"
        chosen = file_of == file
        n_tokens = write_tokens(path, _chunks(ids, at[chosen], lengths[chosen]), dtype)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files.append({"name": path.name, "n_tokens": n_tokens, "sha256": digest})
    n_bytes = int(table.column("n_bytes").to_numpy()[order].sum())
    return {"n_tokens": int(lengths.sum()), "n_docs": len(order), "n_bytes": n_bytes, "files": files}


def _chunks(
    ids: NDArray[np.uint32], at: NDArray[np.int64], lengths: NDArray[np.int64], docs: int = 4_096
) -> Iterator[pa.Array]:
    for first in range(0, len(at), docs):
        part = zip(at[first : first + docs], lengths[first : first + docs], strict=True)
        yield pa.array(np.concatenate([ids[start : start + length] for start, length in part]))
