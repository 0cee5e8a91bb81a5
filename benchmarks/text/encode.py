"""Documents to token ids, Parquet in to Arrow out, on all cores: the shard stage's encoding beside `tokenizers` with the same
tokenizer.json, equal files."""

from __future__ import annotations

import itertools
import tempfile
from functools import lru_cache, partial
from pathlib import Path
from unittest import mock

import pyarrow as pa

from benchmarks.generated import documents
from benchmarks.measure import Result, rates
from model.tokenizer import Tokenizer, train_bpe
from pipeline.shard import encode_shard
from pipeline.tables import DOCS, write_table
from pipeline.text.encode import Encode, slow_encoder

N_DOCS = 8_000


def run() -> Result:
    """Bytes of text a second; raises if one byte of the result differs."""
    texts = list(itertools.islice(documents(), N_DOCS))
    n_bytes = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = {"id": [f"{number:032x}" for number in range(N_DOCS)], "text": texts}
        rest = {column: [""] * N_DOCS for column in DOCS.names if column not in columns}
        write_table(folder / "docs.parquet", pa.table({**columns, **rest}, DOCS))
        train_bpe(iter(texts), 4_096).save(folder / "tokenizer.json")
        encode = partial(encode_shard, folder / "docs.parquet", tokenizer=folder / "tokenizer.json", seed=1)

        def ours() -> bytes:
            return encoded(folder / "ours")

        def peer() -> bytes:
            with mock.patch("pipeline.shard.load_reader", tokenizers_reader):
                return encoded(folder / "peer")

        def encoded(result: Path) -> bytes:
            result.unlink(missing_ok=True)
            encode(result)
            return result.read_bytes()

        assert ours() == peer()
        fast, slow = rates(ours, peer, n_bytes)
    return Result(f"{n_bytes / 1e6:.0f} MB of text, vocabulary 4,096", "bytes/s", fast, slow, "tokenizers")


@lru_cache(maxsize=1)
def tokenizers_reader(tokenizer_json: str) -> tuple[Tokenizer, Encode]:
    return Tokenizer(tokenizer_json), slow_encoder(tokenizer_json)
