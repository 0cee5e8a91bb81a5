"""Vocabularies of others are read exactly, found where other programs store them, and never downloaded."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.text import vocabularies
from benchmarks.text.vocabularies import ENCODINGS, make_peer_encoder
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe
from tests.conftest import ROOT
from tests.pipeline.conftest import write_docs

TEXTS = [f"the cat sat on <|end|> mat number {number}, isn't it?\n" * 3 for number in range(60)]


def write_tiktoken(path: Path, tokenizer: Tokenizer) -> None:
    """The same vocabulary as tiktoken keeps it: each token's bytes and its rank."""
    first = len(SPECIAL_TOKENS)
    spelt = [tokenizer.decode_bytes([index]) for index in range(first, tokenizer.vocab_size)]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(spelt)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents, a tokenizer, params; no vocabulary of others, whatever this machine has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(vocabularies, "_in_hub_cache", lambda repo: None)
    write_docs(tmp_path / "docs", TEXTS)
    (tmp_path / "tokenizer").mkdir()
    train_bpe(TEXTS, 400).save(tmp_path / "tokenizer")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


ARGS = ["vocabularies", "--docs", "docs", "--tokenizer", "tokenizer"]


def test_the_same_vocabulary_in_any_form_gives_the_same_figures(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Tokenizer.load(workspace / "tokenizer")
    (workspace / "cache").mkdir()
    cached = hashlib.sha1(f"{ENCODINGS}cl100k_base.tiktoken".encode()).hexdigest()
    write_tiktoken(workspace / "cache" / cached, tokenizer)
    write_tiktoken(workspace / "cl100k_base.tiktoken", tokenizer)
    peers = ["--vocabularies", "json=tokenizer/tokenizer.json,named=cl100k_base.tiktoken"]
    assert main([*ARGS, *peers]) == 0
    found = json.loads(Path("var/tokenizer/report.json").read_text())["bytes_per_token"]
    assert set(found) == {"ours", "json", "named", "cl100k"}
    assert len(set(found.values())) == 1
    said = capsys.readouterr().out
    assert "not on this machine: gpt2" in said
    assert "cl100k" in Path("var/tokenizer/report.md").read_text()
    for path in ("tokenizer/tokenizer.json", "cl100k_base.tiktoken"):
        _, lengths = make_peer_encoder(Path(path))(TEXTS)
        assert lengths.tolist() == [len(ids) for ids in tokenizer.encode_batch(TEXTS)]


def test_without_others_it_shows_ours_alone(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ARGS) == 0
    assert "not on this machine: gpt2, cl100k" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--vocabularies", "gpt2"], "not NAME=FILE"),
        (["--vocabularies", "x=nowhere.json"], "nowhere.json"),
        (["--vocabularies", "x=params.yaml"], "not a tokenizer.json"),
        (["--vocabularies", "x=mine.tiktoken"], "unknown encoding"),
        (["--vocabularies", "x=cl100k_base.tiktoken"], "not a vocabulary of tiktoken"),
        (["--docs", "nowhere"], "no nowhere"),
        (["--tokenizer", "nowhere"], "there is no tokenizer"),
    ],
)
def test_what_is_wrong_is_named(
    argv: list[str], said: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mine.tiktoken", "cl100k_base.tiktoken"):
        Path(name).write_text("no vocabulary\n")
    assert main([*ARGS, *argv]) == 1
    assert said in capsys.readouterr().err
