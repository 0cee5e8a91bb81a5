"""Query snapshots of an index, run its commands, and run the commands that docs/incremental.md shows."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.dedupe.params import NearIndex
from pipeline.dedupe.seen.__main__ import add_run, main, remove_docs
from pipeline.dedupe.seen.runs import sketch_docs
from pipeline.dedupe.seen.snapshot import (
    describe_snapshot,
    find_duplicates,
    make_settings,
    query_snapshot,
    take_snapshot,
)
from pipeline.frame.errors import UserError
from pipeline.storage.tables import ShardWriter, list_shards, read_docs, read_shard
from tests.conftest import ROOT
from tests.pipeline.conftest import write_docs
from tests.pipeline.dedupe.seen.conftest import PARAMS, SETTINGS, write_run

TEXT = "the quick brown fox jumps over the lazy dog and goes home to sleep"
ALL = "all"


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return the folder of an index with two runs."""
    place = str(tmp_path / "index")
    for name in ("one", "two"):
        add_run(place, name, write_run(tmp_path / name, [(name, f"{name} {TEXT}"), (f"{name}-short", "hi")]), PARAMS)
    return place


def test_a_snapshot_fixes_which_runs_count(place: str, tmp_path: Path) -> None:
    known = take_snapshot(NearIndex(place=place, runs=ALL), PARAMS)
    (part,) = sketch_docs(write_run(tmp_path / "new", [("new", f"one {TEXT}"), ("other", "nothing like it")]), SETTINGS)
    seen = query_snapshot(known, part, PARAMS.min_jaccard)
    assert seen.other_id.to_pylist() == ["one", None]
    assert [run.name for run in known.runs] == ["one", "two"]
    add_run(place, "three", write_run(tmp_path / "three", [("x", "nothing like it")]), PARAMS)
    assert query_snapshot(known, part, PARAMS.min_jaccard).other_id.to_pylist() == ["one", None], (
        "runs added later do not count"
    )


def test_a_shard_gives_the_same_duplicates_for_any_batch_size(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"one {TEXT}" if i % 3 == 0 else f"two {TEXT} now" if i % 5 == 0 else f"{i}" for i in range(50)]
    folder = tmp_path / "new"
    empty = dict.fromkeys(("source", "locator", "title", "url", "license"), [""] * 50)
    with ShardWriter(folder) as writer:
        writer.write(
            pa.table({"id": [f"new{i}" for i in range(50)], "text": texts, **empty, "is_search_only": [False] * 50})
        )
    known = take_snapshot(NearIndex(place=place, runs=ALL), PARAMS)
    assert pickle.loads(pickle.dumps(known)) == known, "it is sent to workers"
    (shard,) = list_shards(folder)
    whole = find_duplicates(shard, known, 0.5)
    assert whole.column("row").to_pylist() == [i for i in range(50) if i % 3 == 0 or i % 5 == 0]
    assert whole.column("is_exact").to_pylist() == [i % 3 == 0 for i in range(50) if i % 3 == 0 or i % 5 == 0]
    assert {row["other_id"] for row in whole.to_pylist()} == {"one"}, "one was added first and is similar to both"
    monkeypatch.setattr("pipeline.dedupe.seen.snapshot.read_shard", partial(read_shard, batch_rows=7))
    assert find_duplicates(shard, known, 0.5).equals(whole)


def test_only_named_runs_count(place: str, tmp_path: Path) -> None:
    known = take_snapshot(NearIndex(place=place, runs=["two"]), PARAMS)
    (part,) = sketch_docs(write_run(tmp_path / "new", [("new", f"one {TEXT}")]), SETTINGS)
    assert query_snapshot(known, part, 0.9).other_id.to_pylist() == [None]
    assert query_snapshot(known, part, 0.5).other_id.to_pylist() == ["two"]
    both = take_snapshot(NearIndex(place=place, runs=["two", "one", "two"]), PARAMS)
    assert both == take_snapshot(NearIndex(place=place, runs=ALL), PARAMS), (
        "runs are in the order in which they were added"
    )


def test_the_description_names_runs_but_not_the_place(place: str) -> None:
    before = describe_snapshot(take_snapshot(NearIndex(place=place, runs=["one"]), PARAMS))
    assert json.loads(json.dumps(before))["runs"][0]["name"] == "one"
    assert place not in json.dumps(before)
    remove_docs(place, ["two"])
    assert describe_snapshot(take_snapshot(NearIndex(place=place, runs=["one"]), PARAMS)) == before, (
        "the other run is not part of it"
    )
    remove_docs(place, ["one"])
    assert describe_snapshot(take_snapshot(NearIndex(place=place, runs=["one"]), PARAMS)) != before


@pytest.mark.parametrize(
    ("near", "message"),
    [
        (NearIndex(place="nowhere", runs=ALL), "no index in nowhere"),
        (NearIndex(place="PLACE", runs=["one", "three"]), "dedupe.index.runs: three is not in"),
        (NearIndex(place="http://x", runs=ALL), "must be a folder index"),
    ],
)
def test_a_missing_index_or_run_is_an_error(place: str, near: NearIndex, message: str) -> None:
    with pytest.raises(UserError, match=message):
        take_snapshot(near.model_copy(update={"place": near.place.replace("PLACE", place)}), PARAMS)


def test_other_settings_are_an_error_before_any_work(place: str) -> None:
    with pytest.raises(UserError, match=r"ngram_words = 2 in the index, 3 in params\.yaml"):
        take_snapshot(NearIndex(place=place, runs=ALL), PARAMS.model_copy(update={"ngram_words": 3}))
    assert make_settings(PARAMS) == SETTINGS


@pytest.mark.parametrize("runs", ["some", [], ["a/b"], [".hidden"], [""]])
def test_run_names_are_checked(runs: Any) -> None:
    with pytest.raises(ValueError, match="runs"):
        NearIndex.model_validate({"place": "x", "runs": runs})


def test_remove_list_and_check(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gone.txt").write_bytes("\ufefftwo\r\n\r\n# a comment\r\n".encode())
    assert main(["remove", "--index", place, "one", "--ids", str(tmp_path / "gone.txt")]) == 0
    assert capsys.readouterr().out == "2 documents removed\n"
    assert main(["remove", "--index", place, "one"]) == 0, "again"
    assert capsys.readouterr().out == "0 documents removed; 1 were removed before\n"
    assert main(["list", "--index", place]) == 0
    assert [line.split()[:5] for line in capsys.readouterr().out.splitlines()] == [
        ["one", "2", "documents", "1", "removed"],
        ["two", "2", "documents", "1", "removed"],
    ]
    assert main(["check", "--index", place]) == 0
    assert main(["list", "--index", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == "the index is intact\nno runs\n"
    assert not (tmp_path / "none").exists(), "queries create nothing"


def test_a_removal_of_unknown_ids_fails_and_names_them(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone.txt").write_text("two\nunknown\n", encoding="utf-16")
    assert main(["remove", "--index", place, "--ids", str(tmp_path / "gone.txt")]) == 1
    assert "1 of 2 ids are not in" in (error := capsys.readouterr().err)
    assert "unknown (1 other documents were removed)" in error
    assert main(["list", "--index", place]) == 0
    assert "1 removed" in " ".join(capsys.readouterr().out.splitlines()[1].split())


def test_a_redis_url_is_refused_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    url = "redis://me:secret@cache.example:6379/0?password=secret"
    with pytest.raises(
        UserError, match=r"(?s)dedupe\.index\.place.*folder index.*pipeline\.dedupe\.seen add"
    ) as refused:
        take_snapshot(NearIndex(place=url, runs=ALL), PARAMS)
    assert main(["remove", "--index", url, "one"]) == 1
    assert "secret" not in f"{refused.value} {capsys.readouterr().err}"


def test_command_errors_have_no_traceback(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remove", "--index", place, "--ids", str(tmp_path / "none")]) == 1
    assert main(["check", "--index", str(tmp_path / "none")]) == 1
    assert main(["remove", "--index", str(tmp_path / "none"), "one"]) == 1
    assert main(["add", "--index", str(tmp_path / "fresh"), "--run", "x", "--docs", str(tmp_path / "none")]) == 1
    errors = capsys.readouterr().err
    assert "No such file" in errors
    assert "contains no index" in errors
    assert "nothing was removed" in errors
    assert "no docs-*.parquet" in errors
    with pytest.raises(SystemExit):
        main(["add", "--index", place, "--run", "../x", "--docs", "x"])
    assert not list((tmp_path / "index").glob(".partial*"))


GUIDE = (ROOT / "docs" / "incremental.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]


def test_the_commands_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "docs" / "recipes" / "smoke.yaml", "params.yaml")
    write_docs(Path("data/filter"), ["some text", "some other text"])
    [first, second] = read_docs(Path("data/filter"), ["id"])["id"].to_pylist()
    Path("takedown.txt").write_text(f"{second}\n")
    assert len(COMMANDS) >= 5
    for line in COMMANDS:
        words = [first if re.fullmatch("[0-9a-f]{32}", word) else word for word in shlex.split(line)]
        assert words[:3] == ["python", "-m", "pipeline.dedupe.seen"], line
        assert main(words[3:]) == 0, line


def test_the_settings_of_the_guide_are_valid() -> None:
    from ruamel.yaml import YAML

    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 1
    for block in blocks:
        NearIndex.model_validate(YAML(typ="safe", pure=True).load(block)["dedupe"]["index"])
