"""Invalid sentence files are reported; training is deterministic; a third-party model is used only if its hash matches."""

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
def quick_params() -> Language:
    quick = {"n_epochs": 15, "n_spans": 0, "n_mixed": 0, "keep_weight": 1, "n_buckets": 20_000}
    return load_params(ROOT / "params.yaml").filter.language.model_copy(update=quick)


@pytest.fixture(scope="module")
def third_party(quick_params: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a model that stands for a third-party one."""
    path = tmp_path_factory.mktemp("hub") / "lid.bin"
    train_language(quick_params, LANGUAGES, path.parent, path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_model(params: Language, path: Path, digest: str) -> Language:
    return params.model_copy(update={"model": ModelFile(path=path.name, sha256=digest)})


def test_training_twice_writes_the_same_bytes_and_no_other_file(
    tmp_path: Path, quick_params: Language, third_party: Path
) -> None:
    train_language(quick_params, LANGUAGES, tmp_path, tmp_path / "two.bin")
    assert (tmp_path / "two.bin").read_bytes() == third_party.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.bin"]


def test_documents_are_judged_by_their_prose(quick_params: Language, third_party: Path) -> None:
    judgment = judge_texts(quick_params, third_party, pa.array([DOC, GERMAN, "f(x) = 2", ""]))
    assert judgment.language.to_pylist() == ["en", "de", "", ""]
    assert judgment.score[0] > 0.5 > judgment.score[1]
    assert judgment.score[2:].tolist() == [0.0, 0.0]


def test_a_third_party_model_is_copied_and_reads_text_as_written(
    tmp_path: Path, quick_params: Language, third_party: Path
) -> None:
    params = with_model(quick_params, third_party, sha256(third_party))
    accuracy, _ = train_language(params, LANGUAGES, third_party.parent, tmp_path / "language.bin")
    assert (tmp_path / "language.bin").read_bytes() == third_party.read_bytes()
    assert accuracy > 0.5
    judgment = judge_texts(params, tmp_path / "language.bin", pa.array([DOC, GERMAN]))
    assert judgment.language.to_pylist() == ["en", "de"]
    plain = language_model.extract_plain_prose(pa.array([DOC]))[0].as_py()
    assert plain == "The norm of a Matrix along the axis"


def test_a_file_with_another_hash_is_never_loaded(
    tmp_path: Path, quick_params: Language, third_party: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(_: Path) -> None:
        pytest.fail("an unknown file was loaded")

    monkeypatch.setattr(language_model, "load_model", loaded)
    with pytest.raises(UserError, match="the file has another hash") as caught:
        train_language(
            with_model(quick_params, third_party, "0" * 64), LANGUAGES, third_party.parent, tmp_path / "language.bin"
        )
    assert str(third_party) in str(caught.value)
    assert sha256(third_party) in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"filter\.language\.model\.path: can't be read") as caught:
        copy_model(ModelFile(path="none.bin", sha256="0" * 64), tmp_path / "examples", tmp_path / "model")
    assert str(tmp_path / "examples" / "none.bin") in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_file_that_is_no_model_is_reported(tmp_path: Path, quick_params: Language) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>", encoding="utf-8")
    with pytest.raises(UserError, match=r"language\.bin: not a fastText model"):
        train_language(with_model(quick_params, page, sha256(page)), LANGUAGES, tmp_path, tmp_path / "language.bin")


def test_a_language_that_the_model_lacks_is_reported(tmp_path: Path, quick_params: Language, third_party: Path) -> None:
    params = with_model(quick_params, third_party, sha256(third_party)).model_copy(update={"keep": ["en", "tlh"]})
    with pytest.raises(UserError, match="the model lacks this language") as caught:
        train_language(params, LANGUAGES, third_party.parent, tmp_path / "language.bin")
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
        ({}, "no sentences to train on"),
        ({"de": "Guten Tag.\n"}, "no sentences to train on"),
        ({"en": "Good day.\n"}, "only one language"),
    ],
)
def test_missing_sentences_are_reported(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_sentences(tmp_path, ["en"])


def test_sentences_that_are_not_utf8_are_reported(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_bytes(b"na\xefve\n")
    with pytest.raises(UserError, match=r"en\.txt:1: not UTF-8"):
        read_sentences(tmp_path, ["en"])


def test_our_own_sentences_cover_enough_languages() -> None:
    sentences = read_sentences(LANGUAGES, ["en"])
    counts: dict[str, int] = {}
    for sentence in sentences:
        counts[sentence.language] = counts.get(sentence.language, 0) + 1
    assert len(counts) >= 25
    assert min(counts.values()) >= 60
