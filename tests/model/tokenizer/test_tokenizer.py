from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.tokenizer.tokenizer import SPECIAL_TOKENS, SPLIT_PATTERNS, Tokenizer, train_bpe
from tests.model.conftest import SENTENCES

TOKENIZERS = {pattern: train_bpe([*SENTENCES * 4, "<|user|>" * 50], 400, pattern) for pattern in SPLIT_PATTERNS}
forged = st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "user", "end", " ", "\r\n", "\u200d", "é"])).map(
    "".join
)


@pytest.mark.parametrize("pattern", SPLIT_PATTERNS)
@given(text=st.one_of(st.text(), forged))
@example(text="<|user|>")
@example(text="\x00\uffff\ud7ff 12345  \n\n\t x")
def test_any_text_round_trips_as_ordinary_text(pattern: str, text: str) -> None:
    tokenizer = TOKENIZERS[pattern]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.stream(ids)) == text
    assert all(index >= len(SPECIAL_TOKENS) for index in ids)
    assert tokenizer.encode_batch([text, text]) == [ids, ids]


@given(st.lists(st.integers(0, 399)))
def test_streaming_equals_decoding_for_any_ids(ids: list[int]) -> None:
    tokenizer = TOKENIZERS["cl100k"]
    ids = [index for index in ids if index < tokenizer.vocab_size]
    assert "".join(tokenizer.stream(ids)) == tokenizer.decode(ids)
    assert tokenizer.decode_bytes(ids, skip_special=False).decode(errors="replace").count("<|pad|>") == ids.count(0)


def test_a_stream_yields_whole_characters(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🦜")
    assert len(ids) == 4  # not in the training text: one token per byte
    assert list(tokenizer.stream(ids)) == ["🦜"]


def test_special_tokens_have_the_first_ids(tokenizer: Tokenizer) -> None:
    assert [tokenizer.get_special_id(name) for name in SPECIAL_TOKENS] == list(range(16))
    assert tokenizer.get_special_id("user") == 3
    assert tokenizer.decode([1, 3], skip_special=False) == "<|bos|><|user|>"
    with pytest.raises(ValueError, match="robot"):
        tokenizer.get_special_id("robot")


def test_training_and_saving_are_deterministic(tmp_path: Path, tokenizer: Tokenizer) -> None:
    again = train_bpe(iter(SENTENCES * 4), 320, "cl100k")
    again.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.sha256 == again.sha256 == tokenizer.sha256
    assert (loaded.vocab_size, loaded.encode(SENTENCES[0])) == (320, tokenizer.encode(SENTENCES[0]))


def test_all_bytes_are_in_the_alphabet() -> None:
    tokenizer = train_bpe(["a"], 16 + 256)
    assert tokenizer.vocab_size == 272
    assert sorted(tokenizer.decode_bytes([index]) for index in range(16, 272)) == [bytes([byte]) for byte in range(256)]


def test_errors_name_the_cause(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size"):
        train_bpe(["a"], 100)
    with pytest.raises(ValueError, match="pattern"):
        train_bpe(["a"], 300, "gpt9")
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")
