"""A writer killed at any point leaves the index as it was; two writers never run at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.dedupe.seen.snapshot import open_index
from pipeline.frame.errors import UserError
from tests.conftest import ROOT
from tests.pipeline.dedupe.seen.conftest import SETTINGS, Docs, answers, ask

MakeRun = Callable[[str, Docs], Path]
TEXT = "the quick brown fox jumps over the lazy dog and goes home to sleep"
NEAR = TEXT + " again"
OTHERS = [(f"{i}", f"{i} {TEXT[i:]} {i}") for i in range(30)]


@contextmanager
def writer(place: str, docs: Path, point: str) -> Iterator[subprocess.Popen[str]]:
    """Start another process that writes to the index and stops at `point`; kill it at the end."""
    command = [sys.executable, "-m", "tests.pipeline.dedupe.seen.stopping_writer", place, "two", str(docs), point]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "here\n"
            yield child
        finally:
            child.kill()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["batch", "finish"])
def test_a_killed_writer_leaves_the_index_as_before(place: str, make_run: MakeRun, point: str) -> None:
    index, docs = open_index(place), make_run("two", OTHERS)
    index.add("one", make_run("one", [("a", TEXT), ("b", NEAR)]), SETTINGS)
    runs, before = index.list_runs(), answers(ask(index, [("new", TEXT), ("5", "")]))
    with writer(place, docs, point):
        assert index.list_runs() == runs, "an unfinished run is not visible"
        with pytest.raises(UserError, match="is being written to"):
            index.add("two", docs, SETTINGS)
        with pytest.raises(UserError, match="is being written to"):
            index.remove(["a"])
    assert index.list_runs() == runs
    assert answers(ask(index, [("new", TEXT), ("5", "")])) == before
    assert index.check() == []
    assert index.add("two", docs, SETTINGS).is_new
    assert index.check() == []
    assert ask(index, [("new", OTHERS[29][1])]).other_id.to_pylist() != [None]


@pytest.mark.slow
def test_a_killed_first_writer_leaves_no_index(place: str, make_run: MakeRun) -> None:
    index = open_index(place)
    with writer(place, make_run("two", OTHERS), "batch"):
        pass
    assert index.read_settings() is None
    assert index.add("one", make_run("one", [("a", TEXT)]), SETTINGS._replace(n_bands=16, n_rows=2)).is_new
    assert index.check() == []


@pytest.mark.slow
@pytest.mark.parametrize("point", ["removal", "scrub"])
def test_a_killed_removal_is_complete_or_not_begun(place: str, make_run: MakeRun, point: str) -> None:
    index = open_index(place)
    index.add("one", make_run("one", [("a", TEXT), ("b", NEAR), ("c", "c " + TEXT)]), SETTINGS)
    with writer(place, Path(), point):
        pass
    assert index.list_runs()[0].n_removed in (0, 2)
    index.remove(["a", "b"])
    assert index.list_runs()[0].n_removed == 2
    assert index.check() == []
    assert ask(index, [("new", TEXT)]).other_id.to_pylist() == ["c"]
