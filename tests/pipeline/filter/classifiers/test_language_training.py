"""Bad sentences are named; the model is the same each time; one of others is used only if it is the one meant."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.filter.classifiers import language_training as language_model
from pipeline.filter.classifiers.language_training import copy_model, judge_texts, read_sentences, train_language
from pipeline.filter.params import Language, ModelFile
from pipeline.frame.errors import ParamError, UserError
from pipeline.params import check_params, load_params
from tests.conftest import read_yaml

ROOT = Path(__file__).parents[4]
LANGUAGES = ROOT / "data" / "seed" / "languages"
DOC = "numpy.linalg.norm(x)\n\nThe norm of a Matrix along the axis.\n\n>>> norm([1])\n1.0\n"
GERMAN = "Berechnet die Norm einer Matrix entlang der angegebenen Achse und gibt sie mit den Werten zurück."


@pytest.fixture(scope="module")
def hasty() -> Language:
    quick = {"n_epochs": 15, "n_spans": 0, "n_mixed": 0, "keep_weight": 1, "n_buckets": 20_000}
    return load_params(ROOT / "params.yaml").filter.language.model_copy(update=quick)


@pytest.fixture(scope="module")
def foreign(hasty: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as others publish them."""
    path = tmp_path_factory.mktemp("hub") / "lid.bin"
    train_language(hasty, LANGUAGES, path.parent, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_model(params: Language, path: Path, digest: str) -> Language:
    return params.model_copy(update={"model": ModelFile(path=path.name, sha256=digest)})


def test_training_twice_gives_the_same_bytes_and_leaves_nothing_else(
    tmp_path: Path, hasty: Language, foreign: Path
) -> None:
    train_language(hasty, LANGUAGES, tmp_path, tmp_path / "two.bin")
    assert (tmp_path / "two.bin").read_bytes() == foreign.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.bin"]


def test_documents_are_judged_by_their_prose(hasty: Language, foreign: Path) -> None:
    found = judge_texts(hasty, foreign, pa.array([DOC, GERMAN, "f(x) = 2", ""]))
    assert found.language.to_pylist() == ["en", "de", "", ""]
    assert found.score[0] > 0.5 > found.score[1]
    assert found.score[2:].tolist() == [0.0, 0.0]


def test_a_model_of_others_is_copied_and_reads_text_as_it_is_written(
    tmp_path: Path, hasty: Language, foreign: Path
) -> None:
    params = with_model(hasty, foreign, sha256(foreign))
    accuracy, _ = train_language(params, LANGUAGES, foreign.parent, tmp_path / "language.bin")
    assert (tmp_path / "language.bin").read_bytes() == foreign.read_bytes()
    assert accuracy > 0.5
    found = judge_texts(params, tmp_path / "language.bin", pa.array([DOC, GERMAN]))
    assert found.language.to_pylist() == ["en", "de"]
    plain = language_model.extract_plain_prose(pa.array([DOC]))[0].as_py()
    assert plain == "The norm of a Matrix along the axis"


def test_another_file_than_the_one_named_is_never_loaded(
    tmp_path: Path, hasty: Language, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(_: Path) -> None:
        pytest.fail("an unknown file was loaded")

    monkeypatch.setattr(language_model, "load_model", loaded)
    with pytest.raises(UserError, match="another file than the one named") as caught:
        train_language(with_model(hasty, foreign, "0" * 64), LANGUAGES, foreign.parent, tmp_path / "language.bin")
    assert str(foreign) in str(caught.value)
    assert sha256(foreign) in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"filter\.language\.model\.path: can't be read") as caught:
        copy_model(ModelFile(path="none.bin", sha256="0" * 64), tmp_path / "examples", tmp_path / "model")
    assert str(tmp_path / "examples" / "none.bin") in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_file_that_is_no_model_is_named(tmp_path: Path, hasty: Language) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>", encoding="utf-8")
    with pytest.raises(UserError, match=r"language\.bin: not a fastText model"):
        train_language(with_model(hasty, page, sha256(page)), LANGUAGES, tmp_path, tmp_path / "language.bin")


def test_a_language_that_the_model_does_not_know_is_named(tmp_path: Path, hasty: Language, foreign: Path) -> None:
    params = with_model(hasty, foreign, sha256(foreign)).model_copy(update={"keep": ["en", "tlh"]})
    with pytest.raises(UserError, match="the model does not know it") as caught:
        train_language(params, LANGUAGES, foreign.parent, tmp_path / "language.bin")
    assert "tlh; its 41 labels are" in str(caught.value)


@pytest.mark.parametrize("model", [{"path": "a.bin"}, {"path": "a.bin", "sha256": "abc"}, {"path": "", "sha256": ""}])
def test_a_model_without_a_hash_is_refused(model: dict[str, str]) -> None:
    values = read_yaml(ROOT / "params.yaml")
    values["filter"]["language"]["model"] = model
    with pytest.raises(ParamError, match=r"filter\.language\.model\.sha256"):
        check_params(values)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no sentences to learn from"),
        ({"de": "Guten Tag.\n"}, "no sentences to learn from"),
        ({"en": "Good day.\n"}, "only one language"),
    ],
)
def test_missing_sentences_are_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_sentences(tmp_path, ["en"])


def test_sentences_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_bytes(b"na\xefve\n")
    with pytest.raises(UserError, match=r"en\.txt: not UTF-8"):
        read_sentences(tmp_path, ["en"])


def test_our_own_sentences_are_enough() -> None:
    sentences = read_sentences(LANGUAGES, ["en"])
    counts: dict[str, int] = {}
    for sentence in sentences:
        counts[sentence.language] = counts.get(sentence.language, 0) + 1
    assert len(counts) >= 25
    assert min(counts.values()) >= 60
