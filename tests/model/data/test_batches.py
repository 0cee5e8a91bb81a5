from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data.batches import Conversation, ConversationBatches, StreamBatches, StreamRows, TokenStream
from model.network.loss import IGNORE
from tests.model.conftest import write_shards


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards(tmp_path / "shards")
    return tmp_path / "shards"


def test_a_stream_is_one_array(shards: Path) -> None:
    tokens = write_shards(shards)
    stream = TokenStream(shards, "train", verify_sha256=True)
    assert len(stream) == len(tokens)
    for start, stop in [(0, 2000), (0, 1), (299, 301), (990, 1310), (1999, 2000), (5, 5)]:
        np.testing.assert_array_equal(stream.read(start, stop), tokens[start:stop])


def test_every_token_is_a_target_once_per_epoch(shards: Path) -> None:
    stream = TokenStream(shards, "train")
    batches = StreamBatches(stream, seq_len=21, batch_rows=5, seed=1)
    assert batches.n_rows == 95
    rows = [batches.at(step) for step in range(19)]
    assert torch.equal(rows[0].ids[:, 1:], rows[0].targets[:, :-1])
    seen = np.sort(np.concatenate([batch.targets.numpy().ravel() for batch in rows]))
    np.testing.assert_array_equal(seen, np.sort(stream.read(1, 95 * 21 + 1)))
    assert sorted(row for batch in rows for row in batch.rows) == list(range(95))


def test_later_epochs_cut_rows_at_other_positions(shards: Path) -> None:
    stream = TokenStream(shards, "train")
    batches = StreamBatches(stream, seq_len=21, batch_rows=95, seed=1)
    epochs = [{tuple(row) for row in batches.at(step).ids.tolist()} for step in range(3)]
    assert not epochs[0] & epochs[1]
    assert not epochs[1] & epochs[2]
    ring = np.concatenate((stream.read(0, 2000), stream.read(0, 2000)))
    for row in batches.at(2).ids.numpy():
        assert any((ring[start : start + 21] == row).all() for start in range(2000))


def test_spans_contain_the_tokens_of_a_batch(shards: Path) -> None:
    """In every batch of three epochs, also where a row wraps around the end of the stream."""
    stream = TokenStream(shards, "train")
    batches = StreamBatches(stream, seq_len=21, batch_rows=5, seed=1)
    n_pieces = 0
    for step in range(3 * 19):
        batch, spans = batches.at(step), batches.find_spans(step)
        tokens = np.concatenate([stream.read(start, stop) for start, stop in spans])
        wanted = torch.cat((batch.ids, batch.targets[:, -1:]), dim=1)
        np.testing.assert_array_equal(tokens, wanted.numpy().ravel())
        n_pieces += len(spans)
    assert n_pieces > 3 * 19 * 5


def test_rows_number_their_documents(tmp_path: Path) -> None:
    tokens = write_shards(tmp_path, n_tokens=100, files=1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"bos_id": int(tokens[5])}))
    stream = TokenStream(tmp_path, "train")
    batch = StreamBatches(stream, seq_len=99, batch_rows=1, seed=1, mask_documents=True).at(0)
    assert batch.documents is not None
    np.testing.assert_array_equal(batch.documents[0], np.cumsum(tokens[:99] == tokens[5]))
    assert StreamBatches(stream, seq_len=99, batch_rows=1, seed=1).at(0).documents is None


def test_a_batch_depends_on_the_step_only(shards: Path) -> None:
    stream = TokenStream(shards, "train")
    first = StreamBatches(stream, seq_len=16, batch_rows=6, seed=1)
    for step in range(30):
        first.at(step)
    second = StreamBatches(stream, seq_len=16, batch_rows=6, seed=1)
    assert torch.equal(first.at(25).ids, second.at(25).ids)
    assert not torch.equal(second.at(25).ids, StreamBatches(stream, seq_len=16, batch_rows=6, seed=2).at(25).ids)


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_share_the_global_batch(shards: Path, n_ranks: int) -> None:
    batches = StreamBatches(TokenStream(shards, "train"), seq_len=16, batch_rows=6, seed=1)
    parts = [batches.at(21, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    assert torch.equal(torch.cat([part.ids for part in parts]), batches.at(21).ids)
    with pytest.raises(ValueError, match="batch_rows"):
        batches.at(0, rank=0, n_ranks=4)


def test_a_damaged_or_missing_shard_is_named(shards: Path) -> None:
    path = shards / "train-00001.arrow"
    content = bytearray(path.read_bytes())
    content[-600] ^= 1
    path.write_bytes(content)
    stream = TokenStream(shards, "train", verify_sha256=True)
    assert len(stream.read(0, 1000)) == 1000  # from the first file, which is intact
    for _ in range(2):
        with pytest.raises(ValueError, match=r"damaged.*train-00001"):
            stream.read(999, 1001)
    path.unlink()
    with pytest.raises(ValueError, match=r"missing.*train-00001"):
        TokenStream(shards, "train")
    with pytest.raises(ValueError, match="no split"):
        TokenStream(shards, "test")
    with pytest.raises(ValueError, match="manifest"):
        TokenStream(shards / "elsewhere", "train")


@pytest.mark.parametrize(("key", "value", "name"), [("dtype", "uint32", "uint32"), ("n_tokens", 5, "n_tokens")])
def test_a_wrong_manifest_is_named(shards: Path, key: str, value: object, name: str) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    (manifest if key in manifest else manifest["train"])[key] = value
    (shards / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=name):
        TokenStream(shards, "train")


def test_a_stream_shorter_than_a_row_is_refused(shards: Path) -> None:
    with pytest.raises(ValueError, match="too small"):
        StreamBatches(TokenStream(shards, "val"), seq_len=500, batch_rows=1, seed=0)


def make_conversations(seed: int, n: int = 40) -> list[Conversation]:
    generator = np.random.default_rng(seed)
    conversations = []
    for _ in range(n):
        length = int(generator.integers(3, 24))
        ids = generator.integers(16, 300, length)
        conversations.append(Conversation(ids.tolist(), (np.arange(length) >= length // 2).tolist()))
    return conversations


@given(st.integers(0, 20))
def test_every_target_of_every_conversation_occurs_once(seed: int) -> None:
    conversations = make_conversations(seed)
    batches = ConversationBatches(conversations, seq_len=32, batch_rows=1, seed=seed)
    pairs: Counter[tuple[int, int]] = Counter()
    for step in range(batches.n_rows):
        batch = batches.at(step)
        is_target = batch.targets != IGNORE
        assert is_target.any()
        assert (batch.documents[is_target] >= 0).all()
        pairs.update(zip(batch.ids[is_target].tolist(), batch.targets[is_target].tolist(), strict=True))
    expected = Counter((ids[n - 1], ids[n]) for ids, mask in conversations for n in range(1, len(ids)) if mask[n])
    assert pairs == expected
    assert batches.packing.left_out == ()


turns = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=3)


@given(st.lists(turns, max_size=12), st.integers(2, 48), st.integers(1, 3), st.integers(1, 3))
def test_every_row_of_every_batch_has_a_target(
    conversations: list[list[tuple[int, int]]], seq_len: int, rank_rows: int, n_ranks: int
) -> None:
    """Also where questions are longer than the window, and where the assistant says nothing."""
    masks = [
        [False, *(is_reply for asked, replied in each for is_reply in [False] * asked + [True] * replied)]
        for each in conversations
    ]
    made = [Conversation(list(range(16, 16 + len(mask))), mask) for mask in masks]
    if not any(any(mask[1:]) for mask in masks):
        with pytest.raises(ValueError, match="no conversation"):
            ConversationBatches(made, seq_len=seq_len, batch_rows=rank_rows * n_ranks, seed=0)
        return
    try:
        batches = ConversationBatches(made, seq_len=seq_len, batch_rows=rank_rows * n_ranks, seed=0)
    except ValueError:  # what the assistant says is before the window of each
        assert all(not any(mask[-seq_len:]) for mask in masks)
        return
    for step in range(3):
        for rank in range(n_ranks):
            batch = batches.at(step, rank=rank, n_ranks=n_ranks)
            assert (batch.targets != IGNORE).any(dim=1).all()


def test_a_long_conversation_keeps_its_answer_and_one_without_target_is_left_out() -> None:
    long = Conversation(list(range(16, 116)), [False] * 90 + [True] * 10)
    silent = Conversation([16, 17, 18], [False] * 3)
    batches = ConversationBatches([long, silent], seq_len=32, batch_rows=2, seed=0)
    assert (batches.packing.cut, batches.packing.left_out, batches.n_rows) == ((0,), (1,), 1)
    batch = batches.at(0)
    assert batch.targets[0][batch.targets[0] != IGNORE].tolist() == list(range(106, 116))
    assert batch.ids[0, 0] == 16
    with pytest.raises(ValueError, match="no conversation"):
        ConversationBatches([silent], seq_len=32, batch_rows=1, seed=0)


def test_replayed_rows_are_evenly_spread_and_weighted(shards: Path) -> None:
    """A quarter of the rows is text of the stream, each token a target of half the weight."""
    conversations = make_conversations(3, 60)
    rows = StreamRows(TokenStream(shards, "train"), 32, mask_documents=True)
    options = {"seq_len": 32, "batch_rows": 4, "seed": 5}
    plain = ConversationBatches(conversations, **options)
    mixed = ConversationBatches(conversations, **options, replay=rows, replay_frac=0.25, replay_weight=0.5)
    seen: list[int] = []
    for step in range(6):
        batch = mixed.at(step)
        assert batch.weights is not None
        replayed = [number for number, row in enumerate(batch.rows) if row >= len(mixed.packing.rows)]
        assert len(replayed) == 1, "in every batch"
        assert (batch.targets[replayed] != IGNORE).all()
        assert batch.weights.mean(1).tolist() == [0.5 if number in replayed else 1.0 for number in range(4)]
        assert len(mixed.find_spans(step)) >= 1
        seen += [row for number, row in enumerate(batch.rows) if number not in replayed]
    assert seen == [row for step in range(6) for row in plain.at(step).rows][: len(seen)]
    assert mixed.n_rows == round(plain.n_rows / 0.75)


def test_replay_is_the_same_for_any_number_of_processes(shards: Path) -> None:
    rows = StreamRows(TokenStream(shards, "train"), 32, mask_documents=True)
    batches = ConversationBatches(
        make_conversations(1), seq_len=32, batch_rows=4, seed=0, replay=rows, replay_frac=0.3, replay_weight=0.2
    )
    whole, parts = batches.at(2), [batches.at(2, rank=rank, n_ranks=2) for rank in range(2)]
    for name in ("ids", "targets", "documents", "weights"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts])), name
