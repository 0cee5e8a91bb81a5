"""The assistant's search over collections: as they are now, with exact places, and without what is missing or broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assistant.knowledge import segment_vectors
from assistant.knowledge.collection import open_collection
from assistant.knowledge.collection_writer import open_writer
from assistant.knowledge.importing import Importer
from assistant.knowledge.knowledge_base import Knowledge, describe_place
from assistant.knowledge.segment_vectors import LoadedEmbed
from assistant.tools.toolbox import make_tools
from model.retrieval.bm25 import Ranked
from model.retrieval.embedder import Embedder
from tests.assistant.knowledge.test_collection import add, read_all_bytes

WIDTH = 8


@pytest.fixture
def folder(handbook: Path) -> Path:
    return handbook


def list_titles(knowledge: Knowledge, query: str) -> list[str]:
    return [result.section.title for result in knowledge.search(query).results]


def make_embed(identity: str, seed: int = 0) -> LoadedEmbed:
    words = ["day", "leav", "plane", "train", "week"]
    vectors = np.random.default_rng(seed).standard_normal((len(words), WIDTH)).astype(np.float16)

    class KeepOrder:
        min_score = -np.inf

        def score(self, candidates: object) -> np.ndarray:
            return -np.arange(len(candidates.rows), dtype=np.float32)  # type: ignore[attr-defined]

    return LoadedEmbed(Embedder(words, vectors), KeepOrder(), identity)  # type: ignore[arg-type]


def test_a_result_has_its_collection_and_its_exact_place(folder: Path) -> None:
    add(folder)
    search = make_tools(None, None, ["handbook"]).run("search_docs", "parental leave").search
    assert search is not None
    [first, *_] = search.results
    assert first.line == '[Leave: Parental leave] "Forty weeks, half of them paid."'
    assert describe_place(first) == f"handbook: Parental leave, line 7, paragraph 2, {folder / 'leave.md'}"


def test_questions_in_other_words_find_the_section(folder: Path) -> None:
    add(folder)
    assert list_titles(Knowledge.open(None, None, ["handbook"]), "How much vacation do I get?")[0].startswith("Leave")


def test_changes_count_from_the_next_search_on(folder: Path) -> None:
    add(folder)
    knowledge = Knowledge.open(None, None, ["handbook"])
    assert list_titles(knowledge, "trains and planes") == ["Travel"]
    (folder / "travel.md").unlink()
    (folder / "pets.md").write_text("# Pets\n\nDogs may lie under the desk.\n")
    add(folder)
    assert list_titles(knowledge, "trains and planes") == []
    assert list_titles(knowledge, "dogs under the desk") == ["Pets"]
    assert len(knowledge) == 3


def test_a_collection_that_is_made_later_counts_from_the_next_question_on(folder: Path) -> None:
    knowledge = Knowledge.open(None, None, ["handbook"])
    assert not knowledge.covers("trains and planes")
    add(folder)
    assert knowledge.covers("trains and planes")
    assert list_titles(knowledge, "trains and planes") == ["Travel"]
    with open_writer("handbook", lambda _: None) as writer:
        writer.drop()
    assert list_titles(knowledge, "trains and planes") == []
    (folder / "pets.md").write_text("# Pets\n\nDogs may lie under the desk.\n")
    add(folder)
    assert knowledge.covers("dogs under the desk")
    assert list_titles(knowledge, "dogs under the desk") == ["Pets"]
    assert len(knowledge.notices) == 2  # said once each time that it was missing


def test_a_missing_or_broken_collection_is_named_and_the_others_answer(folder: Path) -> None:
    add(folder)
    add(folder, name="broken")
    manifest = open_collection("broken").folder / "manifest.json"
    manifest.write_text("{")
    knowledge = Knowledge.open(None, None, ["absent", "broken", "handbook"])
    assert [notice.split(";")[0] for notice in knowledge.notices] == [
        "--collection absent: there is no such collection",
        "the collection broken is broken",
    ]
    assert list_titles(knowledge, "trains and planes") == ["Travel"]


def test_a_collection_that_breaks_meanwhile_is_said_so_once(folder: Path) -> None:
    add(folder)
    add(folder, name="other")
    knowledge = Knowledge.open(None, None, ["handbook", "other"])
    segment = next((open_collection("other").folder / "segments").iterdir())
    (segment / "bm25.arrow").write_bytes(b"")
    (open_collection("other").folder / "manifest.json").write_text(
        (open_collection("other").folder / "manifest.json").read_text() + "\n"
    )
    first, second = (knowledge.search("trains and planes") for _ in range(2))
    assert any("answering without it" in note for note in first.notes)
    assert not any("answering without it" in note for note in second.notes)
    assert [result.collection for result in second.results] == ["handbook"]


def test_only_missing_collections_give_no_passage_and_no_error(folder: Path) -> None:
    tools = make_tools(None, None, ["absent"])
    assert tools.run("search_docs", "anything at all").text == "No passage found."
    with pytest.raises(ValueError, match="not a name"):
        make_tools(None, None, ["../x"])


def test_vectors_are_made_once_for_each_embedder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(folder)
    loaded = {"a": make_embed("aaaa"), "b": make_embed("bbbb", seed=1)}
    monkeypatch.setattr("assistant.knowledge.knowledge_base.load_embed", lambda folder: loaded[folder.name])
    notices = [Knowledge.open(None, Path(name), ["handbook"]).notices for name in ("a", "a", "b")]
    assert notices == [
        ["collection handbook: making vectors of 3 sections, because they have none yet"],
        [],
        ["collection handbook: making vectors of 3 sections, because the embedder has changed"],
    ]
    [segment] = (open_collection("handbook").folder / "segments").iterdir()
    assert [path.name for path in segment.glob("vectors-*")] == ["vectors-bbbb"]
    trace = Knowledge.open(None, Path("b"), ["handbook"]).search("trains", question="trains").trace
    assert [step.name for step in trace] == ["prose: bm25 with synonyms", "prose: vectors", "prose: joined"]


def test_a_store_that_is_down_is_named_and_the_search_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(folder)

    class DownStore:
        def search(self, vector: object, limit: int) -> Ranked:
            raise ValueError("the vector store http://milvus:19530 does not answer")

    monkeypatch.setattr("assistant.knowledge.knowledge_base.load_embed", lambda _: make_embed("aaaa"))
    monkeypatch.setattr(segment_vectors, "_open_store", lambda folder, width: DownStore())
    found = Knowledge.open(None, Path("a"), ["handbook"]).search("trains and planes")
    assert [result.section.title for result in found.results] == ["Travel"]
    assert any("http://milvus:19530 does not answer" in note for note in found.notes)


def test_faiss_is_used_where_the_manifest_says_so_and_removed_vectors_are_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    add(folder)
    with open_writer("handbook", lambda _: None) as writer:
        writer.set_store("faiss")
    monkeypatch.setattr("assistant.knowledge.knowledge_base.load_embed", lambda _: make_embed("aaaa"))
    knowledge = Knowledge.open(None, Path("a"), ["handbook"])
    assert list_titles(knowledge, "trains and planes")[0] == "Travel"
    [segment] = (open_collection("handbook").folder / "segments").iterdir()
    assert (segment / "vectors-aaaa" / "vectors.faiss").is_file()
    with open_writer("handbook", lambda _: None) as writer:
        everything = [each.doc_id for _, each in writer.collection.iterate_documents()]
        writer.commit([], everything)
    assert not list(open_collection("handbook").folder.rglob("vectors*"))
    assert b"Forty" not in read_all_bytes(open_collection("handbook").folder)
    assert list_titles(knowledge, "trains and planes") == []


def test_the_whole_collection_is_removed(folder: Path) -> None:
    add(folder)
    collection = open_collection("handbook")
    with open_writer("handbook", lambda _: None) as writer:
        writer.drop()
    assert sorted(path.name for path in collection.folder.iterdir()) == ["lock"]
    with open_writer("handbook", lambda _: None) as writer:
        assert Importer(writer).run([str(folder)]).n_added == 2
