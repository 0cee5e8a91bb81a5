"""A collection: incremental, resumable, one writer; what is removed is in no file any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from assistant.knowledge import collection_writer
from assistant.knowledge.collection import Collection, list_collections, open_collection
from assistant.knowledge.collection_writer import open_writer
from assistant.knowledge.importing import Importer, ImportReport
from model.retrieval.segment import Segment
from tests.assistant.conftest import LEAVE
from tests.assistant.knowledge.made_files import ENCRYPTED_PDF
from tests.conftest import ROOT


@pytest.fixture
def folder(handbook: Path) -> Path:
    return handbook


def add(*paths: Path | str, name: str = "handbook") -> ImportReport:
    with open_writer(name, lambda _: None) as writer:
        return Importer(writer).run([str(path) for path in paths])


def list_titles(name: str = "handbook") -> list[str]:
    collection = open_collection(name)
    segments = [Segment.open(collection.get_segment_folder(entry)) for entry in collection.manifest.segments]
    return sorted(title for segment in segments for title in segment.sections.column("title"))


def read_all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_sections_have_their_exact_place(folder: Path) -> None:
    add(folder)
    collection = open_collection("handbook")
    [entry] = collection.manifest.segments
    sections = Segment.open(collection.get_segment_folder(entry)).sections
    section = next(section for section in (sections[row] for row in range(len(sections))) if "Forty" in section.text)
    assert section.title == "Leave: Parental leave"
    assert section.heading == ("Parental leave",)
    assert (section.line_start, section.line_end) == (7, 7)
    assert section.url == str(folder / "leave.md")
    assert section.text == "Forty weeks, half of them paid."


def test_a_second_import_does_nothing_and_a_changed_file_replaces_its_sections(folder: Path) -> None:
    first = add(folder)
    assert (first.n_added, first.n_sections) == (2, 3)
    before = open_collection("handbook").manifest
    again = add(folder)
    assert (again.n_added, again.n_changed, again.n_unchanged) == (0, 0, 2)
    assert open_collection("handbook").manifest == before
    (folder / "travel.md").write_text("# Travel\n\nPlanes come before trains.\n")
    changed = add(folder)
    assert (changed.n_changed, changed.n_unchanged) == (1, 1)
    data = read_all_bytes(open_collection("handbook").folder)
    assert b"Planes come" in data
    assert b"Trains come" not in data


def test_a_removed_document_is_in_no_file(folder: Path) -> None:
    add(folder)
    collection = open_collection("handbook")
    with open_writer("handbook", lambda _: None) as writer:
        removed = [each.doc_id for _, each in collection.iterate_documents() if each.key.endswith("leave.md")]
        writer.commit([], removed)
    data = read_all_bytes(collection.folder)
    for word in (b"thirty", b"Forty", b"parent", b"leave.md", removed[0].encode()):
        assert word not in data, word
    assert list_titles() == ["Travel"]


def test_a_file_that_is_gone_is_removed_by_the_next_import_of_its_folder(folder: Path) -> None:
    add(folder)
    (folder / "leave.md").unlink()
    assert add(folder / "travel.md").n_removed == 0
    report = add(folder)
    assert (report.n_removed, report.n_unchanged) == (1, 1)
    assert list_titles() == ["Travel"]


def test_what_is_not_taken_is_counted_by_reason_and_nothing_of_it_is_indexed(folder: Path, tmp_path: Path) -> None:
    (folder / "copy.md").write_text(LEAVE)
    (folder / "scan.pdf").write_bytes(ENCRYPTED_PDF)
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")
    (folder / ".hidden.md").write_text("hidden")
    (folder / "outside.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "secret.md").write_text("secret")
    (folder / "inside").symlink_to(folder)
    os.mkfifo(folder / "pipe.md")
    report = add(folder)
    assert dict(report.reasons) == {
        "duplicate": 1,
        "encrypted": 1,
        "unknown_format": 1,
        "hidden": 1,
        "link_outside": 1,
        "link": 1,
        "not_a_file": 1,
    }
    assert report.n_added == 2
    assert b"secret" not in read_all_bytes(open_collection("handbook").folder)


def test_an_unreadable_file_keeps_what_the_collection_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(folder)
    real = Path.open

    def refuse(path: Path, *args: object, **settings: object) -> object:
        if path.name == "leave.md":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", refuse)
    report = add(folder)
    assert dict(report.reasons) == {"unreadable": 1}
    assert report.n_removed == 0
    assert "Leave: Parental leave" in list_titles()


def test_small_segments_are_merged_and_merging_changes_no_section(folder: Path) -> None:
    for number in range(7):
        (folder / f"note{number}.txt").write_text(f"Note number {number}.")
        add(folder / f"note{number}.txt")
    collection = open_collection("handbook")
    assert len(collection.manifest.segments) == 1
    assert list_titles() == [f"note{number}" for number in range(7)]
    assert sorted(path.name for path in (collection.folder / "segments").iterdir()) == [
        entry.name for entry in collection.manifest.segments
    ]


def test_a_merge_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_writer, "MAX_MERGED_SECTIONS", 3)
    for number in range(7):
        (folder / f"note{number}.txt").write_text(f"Note number {number}.")
        add(folder / f"note{number}.txt")
    assert max(entry.n_sections for entry in open_collection("handbook").manifest.segments) <= 3
    assert len(list_titles()) == 7


def test_an_archive_gives_the_same_sections_as_its_folder(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "handbook.tar.gz"
    subprocess.run(["tar", "czf", archive, "-C", folder, "leave.md", "travel.md"], check=True)
    add(archive, name="packed")
    add(folder)
    assert list_titles("packed") == list_titles()
    assert {each.key for _, each in open_collection("packed").iterate_documents()} == {
        f"{archive}!/leave.md",
        f"{archive}!/travel.md",
    }


@pytest.mark.parametrize("name", ["../escape", "", ".", "a/b", "x" * 65, "-flag"])
def test_a_name_is_never_a_path(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        open_collection(name)


def test_a_broken_manifest_is_named(folder: Path) -> None:
    add(folder)
    path = open_collection("handbook").folder / "manifest.json"
    path.write_text(path.read_text()[:20])
    with pytest.raises(ValueError, match="the collection handbook is broken"):
        open_collection("handbook")


def run_add(arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "assistant.knowledge", "add", *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_an_import_that_is_killed_at_any_moment_is_finished_by_the_next_one(folder: Path, tmp_path: Path) -> None:
    for number in range(300):
        (folder / f"note{number}.md").write_text(
            f"# Note {number}\n\n" + "\n\n".join(f"Fact {number}-{i}." for i in range(40))
        )
    add(folder, name="whole")
    patch = "import assistant.knowledge.importing as i; i.BATCH_DOCUMENTS = 20; from assistant.knowledge.__main__ import main; "
    program = patch + f"import sys; sys.exit(main(['add', {str(folder)!r}, '--collection', 'killed']))"
    n_before = -1
    for delay in (0.3, 0.6, 0.9, 1.2):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL)
        manifest = tmp_path / "collections" / "killed" / "manifest.json"
        while not manifest.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        collection = Collection(tmp_path / "collections" / "killed")
        for entry in collection.manifest.segments:
            assert len(Segment.open(collection.get_segment_folder(entry))) == entry.n_sections  # complete, never half
        assert collection.manifest.n_documents >= n_before  # what was committed stays
        n_before = collection.manifest.n_documents
    report = add(folder, name="killed")
    assert report.n_unchanged >= n_before
    assert list_titles("killed") == list_titles("whole")
    collection = open_collection("killed")
    left = {path.name for path in (collection.folder / "segments").iterdir()}
    assert left == {entry.name for entry in collection.manifest.segments}


@pytest.mark.slow
def test_a_second_writer_waits_and_says_for_whom(folder: Path) -> None:
    with open_writer("handbook", lambda _: None) as writer:
        process = run_add([str(folder), "--collection", "handbook"])
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said == f"waiting: process {os.getpid()} is writing to the collection handbook\n"
        assert writer.manifest.n_documents == 0
    out, _ = process.communicate(timeout=60)
    assert "2 added" in out
    assert list_collections() == ["handbook"]
