"""A segment: its files belong together, the same sections give the same bytes, damaged and foreign folders are refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model.retrieval.mapped_arrays import map_arrays, write_arrays, write_record_batch
from model.retrieval.segment import Segment, is_segment, write_segment
from tests.model.retrieval.conftest import make_docs, make_segment

FILES = ("segment.json", "sections.arrow", "bm25.arrow", "names.arrow", "links.arrow")


def test_a_segment_has_these_files(segment: Segment) -> None:
    assert sorted(path.name for path in segment.folder.iterdir()) == sorted(FILES)
    assert is_segment(segment.folder)


def test_the_same_sections_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [make_segment(tmp_path / name, make_docs()).folder for name in "ab"]
    for name in FILES:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_units_come_first_and_facets_belong_to_their_unit(segment: Segment) -> None:
    kinds = segment.sections.column("kind")
    assert "facet" not in kinds[: segment.sections.n_units]
    assert set(kinds[segment.sections.n_units :]) == {"facet"}
    (row,) = segment.names.find("numpy.sum")
    facets = [segment.sections[at] for at in segment.list_facets(row)]
    assert [facet.title for facet in facets] == ["numpy.sum: parameters", "numpy.sum: returns", "numpy.sum: examples"]
    assert {facet.name for facet in facets} == {"numpy.sum"}
    listed = [at for unit in range(segment.sections.n_units) for at in segment.list_facets(unit)]
    assert listed == list(range(segment.sections.n_units, len(segment)))


def test_an_empty_segment_can_be_searched(tmp_path: Path) -> None:
    empty = make_segment(tmp_path / "empty", [])
    assert len(empty) == 0
    assert empty.names.find_ending("norm") == []


def test_a_facet_without_its_symbol_is_refused(segment: Segment, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a facet of document 01, which has no section of kind symbol"):
        write_segment(tmp_path, [segment.sections[len(segment) - 1]._replace(doc_id="01")])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_text(path: Path) -> None:
    path.write_bytes(b"this is something else, and long enough to be inspected" * 99)


def replace_by_other_table(path: Path) -> None:
    write_record_batch(path, pa.record_batch({"a": [1, 2]}))


def replace_by_other_arrays(path: Path) -> None:
    write_arrays(path, {"numbers": np.arange(3)})


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", [Path.unlink, truncate, empty, replace_by_text, replace_by_other_table, replace_by_other_arrays]
)
def test_a_damaged_file_is_named(segment: Segment, tmp_path: Path, name: str, damage: Callable[[Path], object]) -> None:
    folder = shutil.copytree(segment.folder, tmp_path / "copy")
    damage(folder / name)
    with pytest.raises(
        ValueError, match=rf"{name} is not a readable file of a search index; found: .*; write it again"
    ):
        Segment.open(folder)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_of_another_segment_is_refused(segment: Segment, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(segment.folder, tmp_path / "copy")
    other = make_segment(tmp_path / "other", make_docs()[:2])
    shutil.copy(other.folder / name, folder / name)
    if name == "names.arrow":  # fewer names of rows that exist: only the file of the larger segment shows
        shutil.copytree(other.folder, tmp_path / "small")
        shutil.copy(segment.folder / name, tmp_path / "small" / name)
        folder = tmp_path / "small"
    with pytest.raises(ValueError, match=r"is not a readable file of a search index; found: .*belong together"):
        Segment.open(folder)


def test_a_segment_of_a_later_format_is_refused(segment: Segment, tmp_path: Path) -> None:
    folder = shutil.copytree(segment.folder, tmp_path / "copy")
    about = (folder / "segment.json").read_text()
    (folder / "segment.json").write_text(about.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="found: format 2 instead of 1"):
        Segment.open(folder)


def test_arrays_are_mapped_unchanged(tmp_path: Path) -> None:
    arrays = {"a": np.arange(5, dtype=np.uint8), "b": np.zeros(0, np.float32), "c": np.array([1.5, -2.0])}
    write_arrays(tmp_path / "x.arrow", arrays)
    mapped = map_arrays(tmp_path / "x.arrow", arrays)
    assert all(mapped[name].dtype == array.dtype and (mapped[name] == array).all() for name, array in arrays.items())
