"""The stage index: every symbol can be found, places are exact, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.retrieval.searcher import Searcher
from model.retrieval.sections import Section, hash_text
from model.retrieval.segment import Segment
from pipeline.frame.errors import ParamError, UserError
from pipeline.index.params import Index
from pipeline.index.stage import list_defining_names, run
from pipeline.params import check_params
from pipeline.storage.tables import read_docs
from tests.conftest import ROOT, read_yaml
from tests.pipeline.conftest import write_docs
from tests.pipeline.symbols import Corpus, write_package_corpus

PARAMS = Index(seed=1, section_chars=200, max_sample_bytes=10_000_000)


def make(docs: Path, out: Path, params: Index = PARAMS) -> dict[str, float | int]:
    out.mkdir()
    return run(params, docs=docs, out=out)


def read_sections(folder: Path) -> list[Section]:
    sections = Segment.open(folder).sections
    return [sections[row] for row in range(len(sections))]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_package_corpus(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def made(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float | int]]:
    out = tmp_path_factory.mktemp("made") / "out"
    return out, make(corpus.docs, out)


def test_the_same_bytes_twice(corpus: Corpus, made: tuple[Path, dict[str, float | int]], tmp_path: Path) -> None:
    assert make(corpus.docs, tmp_path / "again") == made[1]
    for path in made[0].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_every_document_is_found_by_its_title(corpus: Corpus, made: tuple[Path, dict[str, float | int]]) -> None:
    searcher = Searcher.open(made[0])
    for title, doc_id in zip(
        *(read_docs(corpus.docs).column(name).to_pylist() for name in ("title", "id")), strict=True
    ):
        (result,) = searcher.search(title).results
        assert (result.section.title, result.section.doc_id, result.how) == (title, doc_id, "exact")


def test_a_section_is_where_it_says(corpus: Corpus, made: tuple[Path, dict[str, float | int]]) -> None:
    docs = read_docs(corpus.docs)
    texts = dict(zip(docs.column("id").to_pylist(), docs.column("text").to_pylist(), strict=True))
    for section in read_sections(made[0]):
        text = texts[section.doc_id]
        assert text[section.start : section.end] == section.text
        assert hash_text(section.text) == section.sha256
        lines = text.split("\n")[section.line_start - 1 : section.line_end]
        assert section.text in "\n".join(lines)
        assert section.line_end - section.line_start == section.text.count("\n")


def test_metrics_count_the_sections(made: tuple[Path, dict[str, float | int]]) -> None:
    folder, metrics = made
    sections = read_sections(folder)
    assert metrics["sections"] == len(sections) == metrics["symbols"] + metrics["facets"] + metrics["prose_sections"]
    assert metrics["symbols"] == 160
    assert metrics["docs_without_section"] == 0
    assert metrics["text_bytes"] == sum(len(section.text.encode()) for section in sections)
    assert metrics["index_bytes"] == sum(path.stat().st_size for path in folder.iterdir())


def test_prose_is_cut_at_paragraphs_and_sentences(tmp_path: Path) -> None:
    paragraphs = [" ".join(f"Sentence {n}.{k} is in paragraph {n}." for k in range(9)) for n in range(9)]
    make(write_docs(tmp_path / "docs", ["\n\n".join(paragraphs)]), tmp_path / "out")
    sections = read_sections(tmp_path / "out")
    assert len(sections) > 9
    assert all(len(section.text) <= 200 and section.text.endswith(".") for section in sections)
    assert " ".join(" ".join(section.text.split()) for section in sections) == " ".join(paragraphs)


def test_a_corpus_without_sections_is_refused(tmp_path: Path) -> None:
    docs = write_docs(tmp_path / "docs", ["", " "])
    with pytest.raises(UserError, match="no sections to search"):
        run(PARAMS, docs=docs, out=tmp_path)


def test_a_large_corpus_is_sampled(tmp_path: Path) -> None:
    docs = write_docs(tmp_path / "docs", [f"Text number {n} has a few words." for n in range(100)])
    metrics = make(docs, tmp_path / "out", PARAMS.model_copy(update={"max_sample_bytes": 1_000}))
    assert 20 <= metrics["sections"] <= 40


def test_the_name_under_which_a_symbol_is_defined_leads_to_its_title() -> None:
    locators = [
        {"module": "numpy._core.fromnumeric", "qualname": "sum"},
        {"module": "pandas", "qualname": "DataFrame", "bases": ["pandas.core.generic.NDFrame"]},
        {},
    ]
    aliases, bases = list_defining_names(["numpy.sum", "pandas.DataFrame", "A Book"], locators)
    assert aliases == {"numpy._core.fromnumeric.sum": "numpy.sum", "pandas.DataFrame": "pandas.DataFrame"}
    assert bases == {"pandas.DataFrame": ["pandas.core.generic.NDFrame"]}


@pytest.mark.parametrize(
    ("section", "name"),
    [("conversations", "passage_chars"), ("conversations", "max_sample_bytes"), ("index", "passage_chars")],
)
def test_a_setting_that_was_moved_is_refused_with_its_new_name(section: str, name: str) -> None:
    values = read_yaml(ROOT / "params.yaml")
    values[section][name] = 1_000_000
    new = name.replace("passage", "section")
    with pytest.raises(ParamError, match=rf"{section}\.{name}: renamed: use index\.{new}"):
        check_params(values)
