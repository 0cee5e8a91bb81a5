"""A takedown of the pipeline reaches every collection, as bytes, and what is taken down is not added again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from assistant.knowledge.__main__ import main
from assistant.knowledge.collection import list_collections, open_collection
from assistant.knowledge.collection_writer import open_writer
from assistant.knowledge.importing import Importer
from assistant.knowledge.pipeline_door import load_takedowns
from pipeline.ledger.takedown import update_collections
from tests.assistant.knowledge.test_collection import read_all_bytes

SECRET = "A secret paragraph about pelicans."


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIGPT_COLLECTIONS", str(tmp_path / "collections"))
    source = tmp_path / "notes"
    source.mkdir()
    (source / "secret.txt").write_text(SECRET)
    (source / "other.txt").write_text("Nothing special.")
    for name in ("one", "two"):
        with open_writer(name, lambda _: None) as writer:
            Importer(writer, license="CC-BY-4.0").run([str(source)])
    return source


def write_takedowns(folder: Path, **values: str) -> Path:
    path = folder / "takedowns.jsonl"
    path.write_text(json.dumps({"reason": "asked", **values}) + "\n")
    return path


def count_collections_with_the_secret() -> int:
    return sum(b"pelican" in read_all_bytes(open_collection(name).folder) for name in list_collections())


def test_a_copy_of_the_text_of_an_id_is_removed_from_every_collection(source: Path, tmp_path: Path) -> None:
    assert count_collections_with_the_secret() == 2
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    path = write_takedowns(tmp_path, kind="id", value="0" * 32, sha256=digest)
    printed = update_collections(path)  # what `python -m pipeline.ledger takedown` runs
    assert "2 documents of 2 collections taken down" in printed
    assert count_collections_with_the_secret() == 0
    assert [each.title for _, each in open_collection("one").iterate_documents()] == ["other"]


def test_what_is_taken_down_is_not_added_again(source: Path, tmp_path: Path) -> None:
    path = write_takedowns(tmp_path, kind="id", value="0" * 32, sha256=hashlib.sha256(SECRET.encode()).hexdigest())
    assert main(["takedown", "--takedowns", str(path)]) == 0
    with open_writer("one", lambda _: None) as writer:
        report = Importer(writer, load_takedowns(path), license="CC-BY-4.0").run([str(source)])
    assert dict(report.reasons) == {"takedown": 1}
    assert b"pelican" not in read_all_bytes(open_collection("one").folder)


def test_a_document_of_a_collection_is_taken_down_by_its_own_id_and_by_license(source: Path, tmp_path: Path) -> None:
    doc_id = next(
        each.doc_id for _, each in open_collection("one").iterate_documents() if each.key.endswith("secret.txt")
    )
    assert main(["takedown", "--takedowns", str(write_takedowns(tmp_path, kind="id", value=doc_id))]) == 0
    assert count_collections_with_the_secret() == 1  # ids contain the collection
    assert main(["takedown", "--takedowns", str(write_takedowns(tmp_path, kind="license", value="CC-BY-4.0"))]) == 0
    assert [open_collection(name).manifest.n_documents for name in list_collections()] == [0, 0]


def test_a_page_is_taken_down_by_its_url_and_by_its_domain(tmp_path: Path) -> None:
    from assistant.knowledge.collection import StoredDocument

    page = StoredDocument(
        "https://www.example.org/a/", "1" * 32, "", "", "", 0, 1, "https://www.example.org/a/", "unknown"
    )
    for values in ({"kind": "url", "value": "http://example.org/a"}, {"kind": "domain", "value": "example.org"}):
        match = load_takedowns(write_takedowns(tmp_path, **values))
        assert match([page, page._replace(url="https://example.com/a")]) == [
            f"{values['kind']}:{match([page])[0].partition(':')[2]}",
            None,
        ]


def test_a_broken_list_is_named_and_nothing_is_removed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "takedowns.jsonl"
    path.write_text("not json\n")
    assert main(["takedown", "--takedowns", str(path)]) == 1
    assert "takedowns.jsonl:1: not a tombstone" in capsys.readouterr().err
    assert count_collections_with_the_secret() == 2
