"""Documents to token ids, Parquet in to Arrow out, on all cores: the encoding of the shard stage against `tokenizers`.

Both use the same tokenizer.json, and the files are equal.
"""

from __future__ import annotations

import itertools
import tempfile
from functools import lru_cache, partial
from pathlib import Path
from unittest import mock

from benchmarks.measure import Result, Work, compare
from benchmarks.text.generated import documents, make_docs_table
from model.tokenizer.tokenizer import Tokenizer, train_bpe
from pipeline.shard.stage import encode_shard
from pipeline.storage.tables import write_table
from pipeline.text.encode import Encode, make_slow_encoder


def run(*, n_docs: int = 8_000) -> Result:
    """Return megabytes of text per second."""
    texts = list(itertools.islice(documents(), n_docs))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "docs.parquet", make_docs_table(texts))
        train_bpe(iter(texts), 4_096).save(folder / "tokenizer.json")
        encode = partial(encode_shard, folder / "docs.parquet", tokenizer=folder / "tokenizer.json", seed=1)

        def ours() -> bytes:
            (folder / "ids").unlink(missing_ok=True)
            encode(folder / "ids")
            return (folder / "ids").read_bytes()

        def peer() -> bytes:
            with mock.patch("pipeline.shard.stage.load_reader", make_tokenizers_reader):
                return ours()

        work = Work(f"{megabytes:.0f} MB of text, vocabulary 4,096", "MB/s", megabytes, "tokenizers", is_one_core=False)
        return compare(work, ours, peer)


@lru_cache(maxsize=1)
def make_tokenizers_reader(tokenizer_json: str) -> tuple[Tokenizer, Encode]:
    """Return the tokenizer with the encoder of `tokenizers`, in the place of ours."""
    return Tokenizer(tokenizer_json), make_slow_encoder(tokenizer_json)
