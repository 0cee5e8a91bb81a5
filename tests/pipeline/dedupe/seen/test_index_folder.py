"""The answers of an index agree with loops over all pairs and with datasketch."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedupe.seen.index_folder import FolderIndex
from pipeline.dedupe.seen.runs import Settings, hash_ids, sketch_batches, sketch_docs
from pipeline.dedupe.seen.snapshot import open_index
from pipeline.frame.errors import UserError
from tests.pipeline.dedupe.seen.conftest import SETTINGS, Docs, answers, ask, write_run

MakeRun = Callable[[str, Docs], Path]
TEXT = "the quick brown fox jumps over the lazy dog and goes home to sleep"
NEAR = TEXT + " again"

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=7).map(" ".join)
RUNS = st.lists(
    st.lists(st.tuples(st.sampled_from("0123456789"), TEXTS), max_size=5, unique_by=lambda doc: doc[0]), max_size=3
)


def grams(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + 2]) for i in range(len(words) - 1)}


def answer_by_loops(runs: list[Docs], gone: set[str], doc: tuple[str, str]) -> tuple[str | None, bool, float]:
    """Apply the rule by brute force: earliest run, exact, most similar, smallest id; the document's own run and later ones do not
    count."""
    for run in runs:
        kept = [(doc_id, text) for doc_id, text in run if doc_id not in gone]
        if doc[0] in dict(kept):
            return None, False, 0.0
        matches: list[tuple[bool, float, str]] = []
        for doc_id, text in kept:
            both, any_of = grams(text) & grams(doc[1]), grams(text) | grams(doc[1])
            similarity = len(both) / len(any_of) if any_of else 0.0
            if text == doc[1] or similarity >= 0.5:
                matches.append((text != doc[1], -1.0 if text == doc[1] else -similarity, doc_id))
        if matches:
            differs, similarity, doc_id = min(matches)
            return doc_id, not differs, -similarity
    return None, False, 0.0


@given(runs=RUNS, new=RUNS.map(lambda runs: runs[0] if runs else []), gone=st.sets(st.sampled_from("0123"), max_size=2))
@settings(max_examples=30, deadline=None)
def test_the_answers_agree_with_loops_over_all_pairs(
    runs: list[Docs],
    new: Docs,
    gone: set[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Use 32 bands of one row: documents that share half of all shingles share a band, except once in 2³²."""
    folder = tmp_path_factory.mktemp("index")
    index = FolderIndex(folder / "index")
    for number, docs in enumerate(runs):
        assert index.add(f"run{number}", write_run(folder / str(number), docs), SETTINGS).is_new
    stored = {doc_id for docs in runs for doc_id, _ in docs}
    assert set(index.remove(sorted(gone))) == gone & stored
    if runs:
        assert index.check() == []
        assert answers(ask(index, new)) == [answer_by_loops(runs, gone, doc) for doc in new]
    shutil.rmtree(folder)


def test_the_index_describes_its_runs(place: str, make_run: MakeRun) -> None:
    index = open_index(place)
    for name in ("one", "two"):
        index.add(name, make_run(name, [(f"{name}{i}", f"{name} {i} {TEXT}") for i in range(9)]), SETTINGS)
    before = index.list_runs()
    assert [(run.name, run.number, run.n_docs, run.n_removed, run.removed) for run in before] == [
        ("one", 1, 9, 0, ""),
        ("two", 2, 9, 0, ""),
    ]
    index.remove(["one3", "one4", "two0", "who"])
    assert index.read_settings() == SETTINGS
    assert [run._replace(n_removed=0, removed="") for run in index.list_runs()] == before
    assert [run.n_removed for run in index.list_runs()] == [2, 1]
    assert [run.removed for run in index.list_runs()] == [hash_ids(["one4", "one3"]), hash_ids(["two0"])]


def random_docs(n: int, seed: int) -> Docs:
    generator = np.random.default_rng(seed)
    docs: list[tuple[str, str]] = []
    for i in range(n):
        words = [f"w{word}" for word in generator.integers(0, 3_000, 120)]
        for copy in range(3):  # copies with more and more words changed
            for at in generator.integers(0, 120, 3 * copy):
                words[at] = f"w{generator.integers(0, 3_000)}"
            docs.append((f"{seed}-{i:03d}-{copy}", " ".join(words)))
    return docs


@pytest.mark.parametrize(("n_bands", "n_rows"), [(14, 8), (20, 5)])
def test_the_candidates_are_those_of_datasketch(place: str, make_run: MakeRun, n_bands: int, n_rows: int) -> None:
    """MinHashLSH nominates candidates in memory; a document must be found exactly if it has any."""
    import datasketch  # not for all workers: 0.6 s

    shape = Settings(5, n_bands, n_rows, 7)
    old, new = random_docs(40, 1), [(f"new-{doc_id}", text) for doc_id, text in random_docs(40, 1)[::2]]
    peer = datasketch.MinHashLSH(num_perm=n_bands * n_rows, params=(n_bands, n_rows))
    for part in sketch_docs(make_run("old", old), shape):
        for doc_id, signature in zip(part.ids.to_pylist(), part.signatures, strict=True):
            peer.insert(doc_id, datasketch.LeanMinHash(seed=7, hashvalues=signature, scheme="affine32"))
    index = open_index(place)
    index.add("old", make_run("again", old), shape)
    found = ask(index, new, shape, min_jaccard=1e-9).other_id.to_pylist()
    nominated: list[list[str]] = []
    for part in sketch_docs(make_run("new", new), shape):
        nominated += [
            peer.query(datasketch.LeanMinHash(seed=7, hashvalues=signature, scheme="affine32"))
            for signature in part.signatures
        ]
    assert [name is not None for name in found] == [bool(names) for names in nominated]
    assert all(name in names for name, names in zip(found, nominated, strict=True) if name is not None)
    assert sum(len(names) > 1 for names in nominated) > 10


def test_nothing_is_dropped_when_a_corpus_is_run_again(place: str, make_run: MakeRun) -> None:
    docs = [("a", TEXT), ("b", NEAR), ("c", TEXT), ("d", "")]
    index = open_index(place)
    index.add("first", make_run("first", docs), SETTINGS)
    assert not ask(index, docs).is_seen.any()
    assert answers(ask(index, [("e", TEXT), ("f", NEAR.upper()), ("g", " ")])) == [
        ("a", True, 1.0),
        ("b", True, 1.0),
        ("d", True, 1.0),
    ]


def test_the_earliest_run_wins_even_if_a_later_one_is_more_similar(place: str, make_run: MakeRun) -> None:
    index = open_index(place)
    index.add("one", make_run("one", [("z", NEAR)]), SETTINGS)
    index.add("two", make_run("two", [("a", TEXT)]), SETTINGS)
    assert ask(index, [("new", TEXT)]).other_id.to_pylist() == ["z"]
    assert ask(index, [("new", TEXT)], runs=index.list_runs()[1:]).other_id.to_pylist() == ["a"]
    assert ask(index, [("new", TEXT)], runs=[]).other_id.to_pylist() == [None]
    assert ask(index, [("a", TEXT)]).other_id.to_pylist() == ["z"], "it was added after z"
    assert ask(index, [("z", NEAR)]).other_id.to_pylist() == [None], "it was added first"


def test_removed_documents_are_not_named_again(place: str, make_run: MakeRun) -> None:
    index = open_index(place)
    index.add("one", make_run("one", [("a", TEXT), ("b", NEAR)]), SETTINGS)
    assert index.remove(["a", "unknown"]) == ["a"]
    assert answers(ask(index, [("new", TEXT)])) == [("b", False, 13 / 14)]
    assert index.remove(["a", "b"]) == ["b"]
    assert answers(ask(index, [("new", TEXT)])) == [(None, False, 0.0)]
    assert index.remove([]) == []
    assert index.check() == []
    assert [(run.n_docs, run.n_removed) for run in index.list_runs()] == [(2, 2)]


def shingle_bytes(text: str) -> list[bytes]:
    (part,) = sketch_batches([pa.record_batch({"id": ["x"], "text": [text]})], SETTINGS)
    return [value.tobytes() for value in part.shingles.hashes]


def test_shingles_of_removed_documents_are_overwritten(tmp_path: Path) -> None:
    index, docs = FolderIndex(tmp_path / "index"), random_docs(9, 3)
    index.add("one", write_run(tmp_path / "one", [*docs, ("mine", TEXT), *random_docs(9, 4)]), SETTINGS)
    (path,) = (tmp_path / "index").rglob("docs.arrow")
    assert all(value in path.read_bytes() for value in shingle_bytes(TEXT))
    index.remove(["mine", docs[0][0]])
    assert not any(value in path.read_bytes() for value in shingle_bytes(TEXT))
    assert all(value in path.read_bytes() for value in shingle_bytes(docs[5][1]))
    assert index.check() == []
    assert ask(index, [("new", TEXT), ("old", docs[5][1])]).is_seen.tolist() == [False, True]


def test_a_run_is_added_once(place: str, make_run: MakeRun) -> None:
    index, folder = open_index(place), make_run("one", [("a", TEXT), ("b", NEAR)])
    first = index.add("one", folder, SETTINGS)
    index.remove(["a"])
    again = index.add("one", folder, SETTINGS)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.run == first.run._replace(n_removed=1, removed=again.run.removed), "removed documents stay removed"
    with pytest.raises(UserError, match="added with other documents"):
        index.add("one", make_run("other", [("a", TEXT)]), SETTINGS)
    assert len(index.list_runs()) == 1


def test_a_run_without_documents(place: str, make_run: MakeRun) -> None:
    index = open_index(place)
    index.add("none", make_run("none", []), SETTINGS)
    assert answers(ask(index, [("a", TEXT)])) == [(None, False, 0.0)]
    assert ask(index, []).is_seen.tolist() == []
    assert index.check() == []


def test_other_settings_are_refused(place: str, make_run: MakeRun) -> None:
    index, folder = open_index(place), make_run("one", [("a", TEXT)])
    assert index.read_settings() is None
    index.add("one", folder, SETTINGS)
    with pytest.raises(UserError, match=r"n_rows = 1 in the index, 2 in params\.yaml"):
        index.add("two", folder, SETTINGS._replace(n_bands=16, n_rows=2))
    assert [run.name for run in index.list_runs()] == ["one"]


def test_a_repeated_id_is_refused_and_leaves_nothing_behind(place: str, make_run: MakeRun) -> None:
    index = open_index(place)
    index.add("one", make_run("one", [("a", TEXT)]), SETTINGS)
    with pytest.raises(UserError, match="contains an id twice"):
        index.add("two", make_run("two", [(f"{i}", TEXT) for i in range(40)] + [("7", NEAR)]), SETTINGS)
    assert [run.name for run in index.list_runs()] == ["one"]
    assert index.check() == []
    assert index.add("two", make_run("three", [("7", NEAR)]), SETTINGS).is_new


def test_nothing_is_pickled(place: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a pickle")

    for name in ("dumps", "loads", "dump", "load"):
        monkeypatch.setattr(pickle, name, refuse)
    index = open_index(place)
    index.add("one", make_run("one", [("a", TEXT), ("b", NEAR)]), SETTINGS)
    assert ask(index, [("new", TEXT)]).is_seen.all()
    assert index.remove(["a"]) == ["a"]


def test_a_missing_run_is_an_error(place: str, make_run: MakeRun, tmp_path: Path) -> None:
    index = open_index(place)
    runs = [index.add("one", make_run("one", [("a", TEXT)]), SETTINGS).run._replace(number=77)]
    with pytest.raises(UserError, match="run one is no longer in"):
        ask(index, [("new", TEXT)], runs=runs)


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "docs", random_docs(5, 1))
    for name in ("a", "b"):
        FolderIndex(tmp_path / name).add("one", folder, SETTINGS)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("a", "b")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert [path.name for path in files[0]] == ["lock", "docs.arrow", "keys.arrow", "run.json"]


def test_small_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, new = FolderIndex(tmp_path / "index"), [(f"n{doc_id}", text) for doc_id, text in random_docs(9, 1)]
    index.add("one", write_run(tmp_path / "docs", random_docs(9, 1)), SETTINGS)
    whole = answers(ask(index, new, min_jaccard=0.01))
    monkeypatch.setattr("pipeline.dedupe.seen.mapped.BLOCK_PAIRS", 3)
    monkeypatch.setattr("pipeline.dedupe.seen.mapped.BLOCK_SETS", 2)
    assert answers(ask(index, new, min_jaccard=0.01)) == whole


@pytest.mark.parametrize("name", ["docs.arrow", "keys.arrow"])
def test_check_finds_a_changed_byte(tmp_path: Path, name: str) -> None:
    index = FolderIndex(tmp_path / "index")
    index.add("one", write_run(tmp_path / "docs", [("a", TEXT), ("b", NEAR)]), SETTINGS)
    (path,) = (tmp_path / "index").rglob(name)
    data = path.read_bytes()
    needle = b"ab" if name == "docs.arrow" else (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    at = data.rindex(needle, 0, len(data) - 400)
    path.write_bytes(data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :])
    assert index.check()
