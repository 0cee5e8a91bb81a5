from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.retrieval.embedder import FILE, Embedder

WORDS = ["array", "invert", "matric", "sum"]
VECTORS = np.random.default_rng(1).standard_normal((len(WORDS), 8)).astype(np.float16)


def make() -> Embedder:
    return Embedder(WORDS, VECTORS)


def test_a_vector_is_the_weighted_sum_of_its_words_at_unit_length() -> None:
    wanted = VECTORS[1].astype(np.float32) + (1 + np.log(2)) * VECTORS[2].astype(np.float32)
    np.testing.assert_allclose(
        make().embed(["Inverting matrices: a matrices!"])[0], wanted / np.linalg.norm(wanted), rtol=1e-5
    )


def test_the_order_of_words_changes_no_bit() -> None:
    one, two = make().embed(["sum array matrices invert", "invert matrices array sum"])
    assert one.tobytes() == two.tobytes()


@given(st.lists(st.text(st.sampled_from("sum array\n\ud800x.é"), max_size=40), max_size=5))
def test_a_text_has_the_same_vector_alone_and_in_a_batch(texts: list[str]) -> None:
    embedder = make()
    together = embedder.embed(texts)
    assert together.shape == (len(texts), embedder.width)
    for text, vector in zip(texts, together, strict=True):
        assert embedder.embed([text])[0].tobytes() == vector.tobytes()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) or not vector.any()


def test_unknown_words_alone_give_zeros() -> None:
    assert not make().embed(["zebra", "", "the of"]).any()


def test_a_saved_embedder_is_the_same(tmp_path: Path) -> None:
    make().save(tmp_path)
    loaded = Embedder.load(tmp_path)
    texts = ["sum of an array", "matrix"]
    assert loaded.embed(texts).tobytes() == make().embed(texts).tobytes()
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again")
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "again" / FILE).read_bytes()


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "nan"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    embedder = Embedder(WORDS, VECTORS * np.float16(np.nan)) if damage == "nan" else make()
    embedder.save(tmp_path)
    path = tmp_path / FILE
    if damage == "missing":
        path.unlink()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    if damage == "foreign":
        path.write_text("{}")
    with pytest.raises(ValueError, match=FILE):
        Embedder.load(tmp_path)
