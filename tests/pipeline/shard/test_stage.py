"""Token shards: no token lost, no document in both splits, files as listed in the manifest."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from model.data.batches import TokenStream
from model.tokenizer.tokenizer import Tokenizer, train_bpe
from pipeline.frame.errors import UserError
from pipeline.shard.params import Shard
from pipeline.shard.split import compute_order_keys, is_val
from pipeline.shard.stage import run
from pipeline.storage.tables import read_docs, read_table
from pipeline.text.encode import check_same, make_fast_encoder
from tests.pipeline.conftest import write_with_copies

PARAMS = Shard(val_frac=0.2, seed=1, file_tokens=3_000)
HOSTILE = ["<|user|> hi <|end|>", "", "a\r\n\r\n b", "\u0000\ufffd", "漢字🎉é", "1234567 89", "   \n\t  ", "'S 'll"]


@pytest.fixture
def made(make_docs: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return the folders (documents, tokenizer, shards)."""
    docs, folder, out = make_docs(150), tmp_path / "tokenizer", tmp_path / "shard"
    folder.mkdir()
    out.mkdir()
    train_bpe(iter(read_docs(docs, ["text"]).column("text").to_pylist()), 400).save(folder)
    run(PARAMS, docs=docs, tokenizer=folder, scratch=tmp_path / "scratch", out=out)
    return docs, folder, out


def test_every_document_is_whole_and_in_one_split(made: tuple[Path, Path, Path]) -> None:
    docs, folder, out = made
    tokenizer = Tokenizer.load(folder)
    texts = dict(zip(*(read_docs(docs).column(name).to_pylist() for name in ("id", "text")), strict=True))
    rows = read_table(out / "docs.parquet").to_pylist()
    assert sorted(row["id"] for row in rows) == sorted(texts)
    streams = {split: TokenStream(out, split, verify_sha256=True) for split in ("train", "val")}
    for row in rows:
        ids = streams[row["split"]].read(row["start"], row["start"] + row["n_tokens"])
        assert ids[0] == tokenizer.get_special_id("bos")
        assert ids[1:].tolist() == tokenizer.encode(texts[row["id"]])
        assert row["n_bytes"] == len(texts[row["id"]].encode())
    for split, stream in streams.items():
        mine = sorted((row["start"], row["n_tokens"]) for row in rows if row["split"] == split)
        assert mine[0][0] == 0
        assert all(start + n == after for (start, n), (after, _) in itertools.pairwise(mine))
        assert sum(n for _, n in mine) == len(stream)


def test_the_manifest_describes_the_files(made: tuple[Path, Path, Path]) -> None:
    _, folder, out = made
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["tokenizer_sha256"] == Tokenizer.load(folder).sha256
    assert manifest["dtype"] == "uint16"
    assert len(manifest["train"]["files"]) > 1
    for split in ("train", "val"):
        files = manifest[split]["files"]
        assert sum(file["n_tokens"] for file in files) == manifest[split]["n_tokens"]
        for file in files:
            assert hashlib.sha256((out / file["name"]).read_bytes()).hexdigest() == file["sha256"]


def test_a_corrupted_file_is_named(made: tuple[Path, Path, Path]) -> None:
    path = made[2] / "train-00001.arrow"
    content = bytearray(path.read_bytes())
    content[1_000] ^= 1
    path.write_bytes(content)
    stream = TokenStream(made[2], "train", verify_sha256=True)
    with pytest.raises(ValueError, match="train-00001"):
        stream.read(0, len(stream))


def test_a_document_keeps_its_split_when_others_are_added(
    make_docs: Callable[..., Path], made: tuple[Path, Path, Path]
) -> None:
    ids = read_table(made[2] / "docs.parquet", ["id"]).column("id").to_pylist()
    whole = dict(zip(ids, is_val(ids, 0.2, 1), strict=True))
    some = ids[::3]
    assert dict(zip(some, is_val(some, 0.2, 1), strict=True)) == {id_: whole[id_] for id_ in some}
    assert 0.05 < sum(whole.values()) / len(whole) < 0.4


def test_the_fast_encoder_is_exact_on_hostile_text(made: tuple[Path, Path, Path]) -> None:
    folder = made[1]
    tokenizer = Tokenizer.load(folder)
    encode = make_fast_encoder((folder / "tokenizer.json").read_text())
    check_same(encode, tokenizer.encode_batch, HOSTILE)
    with pytest.raises(ValueError, match="disagree"):
        check_same(encode, lambda texts: [[*ids, 5] for ids in tokenizer.encode_batch(texts)], HOSTILE)


def test_a_corpus_that_is_too_small_for_two_splits_is_refused(
    make_docs: Callable[..., Path], made: tuple[Path, Path, Path]
) -> None:
    out = made[2].with_name("small")
    out.mkdir()
    params = Shard(val_frac=0.0001, seed=1, file_tokens=3_000)
    with pytest.raises(UserError, match="falls into val"):
        run(params, docs=made[0], tokenizer=made[1], scratch=out / "scratch", out=out)


def test_the_bytes_do_not_depend_on_the_memory_for_sorting(
    made: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, folder, out = made
    monkeypatch.setattr("pipeline.storage.sort.RUN_BYTES", 500)
    again = tmp_path / "again"
    again.mkdir()
    run(PARAMS, docs=docs, tokenizer=folder, scratch=tmp_path / "other", out=again)
    assert len({path.name for path in again.iterdir()}) == len(list(out.iterdir()))
    for path in out.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_documents_keep_their_order_when_others_are_removed(made: tuple[Path, Path, Path]) -> None:
    rows = read_table(made[2] / "docs.parquet").to_pylist()
    for split in ("train", "val"):
        ids = [row["id"] for row in rows if row["split"] == split]
        keys = compute_order_keys(ids, PARAMS.seed).tolist()
        assert keys == sorted(keys)
        assert compute_order_keys(ids[::2], PARAMS.seed).tolist() == keys[::2]


def test_documents_for_search_only_leave_the_bytes_as_they_are(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    docs, folder, out = made
    again = tmp_path / "again"
    again.mkdir()
    both = write_with_copies(docs, tmp_path / "both")
    run(PARAMS, docs=both, tokenizer=folder, scratch=tmp_path / "other", out=again)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in out.iterdir()
    }
