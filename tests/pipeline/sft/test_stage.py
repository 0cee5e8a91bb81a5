"""The sft stage: the loss covers the assistant's tokens, and the output is a model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model.network.folder import load_model
from model.tokenizer.tokenizer import Tokenizer
from pipeline.frame.errors import UserError
from pipeline.params import load_params
from pipeline.sft.params import Sft
from pipeline.sft.stage import open_replay, read_conversations, run
from pipeline.storage.tables import CONVERSATIONS, read_table, write_table


def test_output_is_a_model_folder_with_history(finished_workspace: Path) -> None:
    _, _, about = load_model(finished_workspace / "data/sft")
    assert about["phase"] == "sft"
    assert not (finished_workspace / "data/sft/passages.sqlite").exists()
    history = [json.loads(line) for line in (finished_workspace / "data/sft/history.jsonl").read_text().splitlines()]
    assert history[-1]["loss_nats"] < history[0]["loss_nats"]
    assert "heldout_loss_nats" in history[-1]


def test_targets_are_the_assistant_s_tokens_only(finished_workspace: Path) -> None:
    tokenizer = Tokenizer.load(finished_workspace / "data/sft")
    rows = read_table(finished_workspace / "data/conversations/train.parquet").to_pylist()[:50]
    for row, conversation in zip(
        rows, read_conversations(finished_workspace / "data/conversations/train.parquet", tokenizer), strict=False
    ):
        replies = [message for message in json.loads(row["messages"]) if message["role"] == "assistant"]
        scored = [id_ for id_, is_target in zip(conversation.ids, conversation.mask, strict=True) if is_target]
        assert scored.count(tokenizer.get_special_id("end")) == len(replies)
        text = tokenizer.decode(scored)
        for message in replies:
            assert message.get("call", {}).get("argument", message["content"]) in text.replace('\\"', '"')


def test_empty_conversations_are_rejected(finished_workspace: Path, tmp_path: Path) -> None:
    empty = read_table(finished_workspace / "data/conversations/train.parquet").slice(0, 0).cast(CONVERSATIONS)
    write_table(tmp_path / "train.parquet", empty)
    write_table(tmp_path / "heldout.parquet", empty)
    with pytest.raises(UserError, match="no conversations"):
        run(
            load_params(finished_workspace / "params.yaml").sft,
            base=finished_workspace / "data/pretrain",
            conversations=tmp_path,
            scratch=tmp_path,
            out=tmp_path,
        )


def test_replay_needs_shards_of_the_base_s_tokenizer(finished_workspace: Path, tmp_path: Path) -> None:
    data, params = finished_workspace / "data", load_params(finished_workspace / "params.yaml").sft
    params = Sft.model_validate({**params.model_dump(), "replay_frac": 0.25})
    tokenizer = Tokenizer.load(data / "pretrain")
    with pytest.raises(UserError, match="replay_frac") as caught:
        open_replay(params, None, tokenizer, 384, tmp_path / "verified")
    assert "--shards" in caught.value.do
    rows = open_replay(params, data / "shard", tokenizer, 384, tmp_path / "verified")
    assert rows is not None
    assert rows.n_rows > 0
    with pytest.raises(UserError, match="does not fill"):
        open_replay(params, data / "shard", tokenizer, 10**9, tmp_path / "verified")
    other = tmp_path / "shards"
    shutil.copytree(data / "shard", other)
    manifest = json.loads((other / "manifest.json").read_text()) | {"tokenizer_sha256": "0" * 64}
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="another tokenizer") as caught:
        open_replay(params, other, tokenizer, 384, tmp_path / "verified")
    assert tokenizer.sha256[:12] in caught.value.found
