"""`takedown` foresees exactly which documents the download stage then drops."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.download.tombstones import make_tombstone, parse
from pipeline.ledger import takedown
from pipeline.ledger.__main__ import main
from pipeline.ledger.places import DataSnapshot, DvcCache
from pipeline.ledger.versions import RegisteredVersions
from pipeline.storage.tables import read_docs, read_table
from tests.conftest import new_workspace, read_yaml, run_command
from tests.pipeline.ledger.made import an_id, doc, dropped, write_corpus

LICENSES = ("MIT", "MIT AND CC-BY-NC-4.0", "MIT OR CC-BY-NC-4.0", "unknown", "")
URLS = (
    "https://a.example.org/1",
    "http://www.a.example.org/1/#top",
    "https://b.example.org/2",
    "https://example.org/",
    "https://notexample.org/1",
    "https://bücher.example/1",
    "",
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [
        {"text": f"Text {place}.", "url": URLS[place % 7], "license": LICENSES[place % 5], "title": f"T {place}"}
        for place in range(35)
    ]
    root = new_workspace(tmp_path)
    (root / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    params = read_yaml(root / "params.yaml")
    columns = {f"{name}_column": name for name in ("title", "url", "license")}
    params["download"]["sources"] = [{"kind": "text", "name": "pages", "path": "pages.jsonl", **columns}]
    with (root / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(params, file)
    return root


def collect(root: Path, out: str, takedowns: str = "", code: int = 0) -> tuple[dict[str, float], Path]:
    """Run the stage by its command, with these tombstones; return its metrics and folder."""
    (root / "takedowns.jsonl").write_text(takedowns)
    paths = ["--takedowns", "takedowns.jsonl", "--out", f"{out}/download", "--metrics", f"{out}/metrics.json"]
    assert run_command(root, ["download", *paths], MINIGPT_ENGINE="serial") == code
    return {} if code else json.loads((root / out / "metrics.json").read_text()), root / out


@pytest.mark.parametrize(
    ("kind", "value", "n"),
    [
        ("url", "https://a.example.org/1", 10),
        ("domain", "a.example.org", 10),
        ("domain", "example.org", 20),
        ("domain", "xn--bcher-kva.example", 5),
        ("domain", "BÜCHER.example", 5),
        ("license", "CC-BY-NC-4.0", 7),
        ("license", "MIT", 14),
        ("license", "unknown", 14),  # a document without a license has the one of its source: unknown
        ("domain", "nowhere.org", 0),
    ],
)
def test_exactly_the_foreseen_documents_are_dropped(corpus: Path, kind: str, value: str, n: int) -> None:
    collect(corpus, "before")
    stones = [make_tombstone(kind, value, "asked")]
    foreseen = takedown.find_covered(corpus / "before/download", stones)["id"].to_list()
    assert len(foreseen) == n
    metrics, after = collect(corpus, "after", takedown.render(stones))
    whole = read_docs(corpus / "before/download").to_pylist()
    assert read_docs(after / "download").to_pylist() == [row for row in whole if row["id"] not in foreseen]
    ledger = read_table(after / "download/ledger.parquet").to_pylist()
    assert [row["id"] for row in ledger] == foreseen
    assert {(row["stage"], row["decision"], row["reason"], row["other_id"]) for row in ledger} <= {
        ("download", "dropped", "takedown", stones[0].key)
    }
    assert metrics["dropped_takedown"] == n
    assert metrics["docs_in"] == metrics["docs_out"] + n == 35


def test_a_corpus_of_tombstones_is_empty(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stones = [make_tombstone("license", name, "asked") for name in ("MIT", "unknown", "CC-BY-NC-4.0", "Zlib")]
    (corpus / "pages.jsonl").write_text('{"text": "One.", "license": "MIT"}\n')
    collect(corpus, "after", takedown.render(stones), code=1)
    assert "the corpus is empty" in capsys.readouterr().err


@pytest.fixture
def data(tmp_path: Path) -> DataSnapshot:
    """Write a corpus in which 1 stands in for 2 and 3, and 4 has no duplicates."""
    ledger = [dropped(an_id(number), "dedupe", "near_duplicate", an_id(1)) for number in (2, 3)]
    return write_corpus(tmp_path / "data", [doc(number) for number in range(1, 9)], ledger)


@pytest.mark.parametrize(("number", "others"), [(1, {2, 3}), (2, {1, 3}), (4, set())])
def test_the_other_members_of_a_cluster_are_found(data: DataSnapshot, number: int, others: set[int]) -> None:
    assert takedown.find_cluster_members(data, [an_id(number)]) == sorted(an_id(other) for other in others)
    registry = RegisteredVersions(Path("nowhere"), DvcCache(Path("nowhere")))
    plan = takedown.plan_takedown(data, [make_tombstone("id", an_id(number), "r")], registry, with_duplicates=True)
    assert {stone.value for stone in plan.stones} == {an_id(each) for each in {number, *others}}
    assert plan.documents["id"].to_list() == sorted(an_id(each) for each in {number, *others})
    assert plan.cluster == []


def test_documents_of_an_earlier_run_or_taken_down_already_do_not_return(tmp_path: Path) -> None:
    ledger = [dropped(an_id(number), "dedupe", "near_duplicate", an_id(1)) for number in (2, 3)]
    ledger.append(dropped(an_id(4), "dedupe", "seen_before", an_id(99)))
    data = write_corpus(tmp_path / "data", [doc(number) for number in range(1, 9)], ledger)
    registry, before = (
        RegisteredVersions(Path("nowhere"), DvcCache(Path("nowhere"))),
        [make_tombstone("id", an_id(2), "r")],
    )
    for number, others in ((1, [3]), (4, [])):
        stones = [make_tombstone("id", an_id(number), "r")]
        plan = takedown.plan_takedown(data, stones, registry, before, with_duplicates=False)
        assert plan.cluster == [an_id(other) for other in others]


def ask(data: DataSnapshot, *arguments: str, code: int = 0) -> None:
    root = data.collected.parent
    file = ["--data", str(root), "--takedowns", str(root.parent / "takedowns.jsonl")]
    assert main(["takedown", *arguments, *file]) == code


def test_the_command_writes_a_sorted_file_and_prints_the_next_steps(
    data: DataSnapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(data, an_id(1)[:10], "--url", "https://SITE4.example.org/4/", "--reason", "asked", "--date", "2026-11-20")
    output = capsys.readouterr().out
    file = data.collected.parent.parent / "takedowns.jsonl"
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {
            "kind": "id",
            "value": an_id(1),
            "reason": "asked",
            "date": "2026-11-20",
            "sha256": hashlib.sha256(b"Text 1.").hexdigest(),
        },
        {"kind": "url", "value": "site4.example.org/4", "reason": "asked", "date": "2026-11-20"},
    ]
    for words in ("that will be removed: 2\n", "Page 1", "Page 4", "(--with-duplicates): 2: ", "dvc repro", "git add"):
        assert words in output
    assert "Text 1." not in file.read_text() + output
    before = file.read_text()
    ask(data, an_id(1), "--reason", "again")
    assert file.read_text() == before
    assert "1 already present" in capsys.readouterr().out
    ask(data, "--list")
    assert "2 tombstones" in capsys.readouterr().out
    ask(data, "--list", "--json")
    listed = json.loads(capsys.readouterr().out)["tombstones"]
    assert [(row["left_out"], row["still_there"]) for row in listed] == [(0, 1), (0, 1)]


def test_takedowns_work_before_anything_is_collected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "takedowns.jsonl"
    asked = [
        "takedown",
        an_id(1),
        "--domain",
        "x.org",
        "--reason",
        "r",
        "--data",
        str(tmp_path),
        "--takedowns",
        str(file),
    ]
    assert main(asked) == 0
    output = capsys.readouterr().out
    assert "that will be removed: 0\n" in output
    assert "there is no corpus yet" in output
    assert len(parse(file.read_text())) == 2
    assert main([*asked[:1], "--list", *asked[-4:]]) == 0
    assert "2 tombstones" in capsys.readouterr().out


def test_a_list_may_hold_all_kinds(data: DataSnapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "# a comment",
        an_id(1).upper(),
        "https://example.org/x",
        "domain:*.Example.net",
        "licence:mit",
        '{"kind": "url", "value": "https://x.org/y", "reason": "own"}',
        "",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    ask(data, "--file", str(tmp_path / "list.txt"), "--reason", "court", "--json", code=1)
    ask(data, "--file", str(tmp_path / "list.txt"), "--reason", "court", "--json", "--allow-unmatched")
    found = json.loads(capsys.readouterr().out)
    assert found["new"] == 5
    assert found["unmatched"] == ["url:example.org/x", "domain:example.net", "url:x.org/y"]
    assert len(found["documents"]) == 8
    stones = parse((tmp_path / "takedowns.jsonl").read_text())
    assert [(stone.key, stone.reason) for stone in stones] == [
        ("domain:example.net", "court"),
        (f"id:{an_id(1)}", "court"),
        ("license:MIT", "court"),
        ("url:example.org/x", "court"),
        ("url:x.org/y", "own"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_list_of_any_encoding_takes_down_all_its_documents(
    data: DataSnapshot, tmp_path: Path, encoding: str, newline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["https://site1.example.org/1", "\u200bdomain:site2.example.org\u200e", an_id(3), ""]
    (tmp_path / "list.txt").write_bytes(newline.join(lines).encode(encoding))
    (tmp_path / "takedowns.jsonl").write_bytes(b'\xef\xbb\xbf{"kind": "domain", "value": "x.org"}\r\n')
    ask(data, "--file", str(tmp_path / "list.txt"), "--reason", "court", "--json")
    assert sorted(json.loads(capsys.readouterr().out)["documents"]) == sorted(map(an_id, (1, 2, 3, 7)))
    keys = [stone.key for stone in parse((tmp_path / "takedowns.jsonl").read_text())]
    assert keys == ["domain:site2.example.org", "domain:x.org", f"id:{an_id(3)}", "url:site1.example.org/1"]


def test_a_takedown_that_matches_nothing_fails_and_names_it(
    data: DataSnapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [an_id(1), "--url", "https//site4.example.org/4", "--domain", "site1.example.org", "--reason", "r"]
    ask(data, *asked, code=1)
    error = capsys.readouterr().err
    assert "1 of 3 entries match no document; nothing was written" in error
    assert "url:https/" in error
    assert "site1" not in error
    file = data.collected.parent.parent / "takedowns.jsonl"
    assert not file.exists()
    ask(data, *asked, "--allow-unmatched")
    assert "match nothing so far: 1: url:https/" in capsys.readouterr().out
    ask(data, *asked)
    assert "3 already present" in capsys.readouterr().out


def test_documents_removed_before_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = [dropped(an_id(2), "download", "takedown", "url:site2.example.org/2")]
    data = write_corpus(tmp_path / "data", [doc(number) for number in range(1, 4)], ledger)
    ask(data, an_id(2), "--url", "http://site2.example.org/2", "--reason", "again")
    ask(data, an_id(4), "--reason", "r", code=1)
    assert f"id:{an_id(4)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "nothing to take down"),
        (["00", "--reason", "r"], "not the id of one document"),
        (["--domain", "x.org"], "no reason"),
        (["--domain", "x.org/y", "--reason", "r"], "not a domain"),
        (["--file", "nowhere.txt", "--reason", "r"], "can't be read"),
    ],
)
def test_an_invalid_takedown_writes_nothing(
    data: DataSnapshot, arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(data, *arguments, code=1)
    assert error in capsys.readouterr().err
    assert not (data.collected.parent.parent / "takedowns.jsonl").exists()


def test_an_invalid_line_of_a_list_is_named(
    data: DataSnapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("domain:x.org\nwhat?\n")
    ask(data, "--file", str(tmp_path / "list.txt"), "--reason", "r", code=1)
    assert "list.txt:2" in capsys.readouterr().err


def test_why_explains_what_was_taken_down(
    data: DataSnapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "after"
    stones = [make_tombstone("domain", "example.com", "a court"), make_tombstone("id", an_id(1), "asked")]
    (tmp_path / "takedowns.jsonl").write_text(takedown.render(stones))
    write_corpus(root, [doc(1), doc(2)], [dropped(an_id(1), "download", "takedown", f"id:{an_id(1)}")])
    asked = ["--data", str(root), "--takedowns", str(tmp_path / "takedowns.jsonl")]
    assert main(["why", an_id(1), *asked]) == 0
    assert f"taken down by id {an_id(1)} (asked)" in capsys.readouterr().out
    assert main(["why", "https://www.example.com/some/page", *asked]) == 0
    assert "taken down: domain example.com (a court), not committed yet" in capsys.readouterr().out
    (tmp_path / "takedowns.jsonl").write_text(takedown.render([make_tombstone("id", an_id(2), "asked too")]))
    assert main(["why", "Page 2", *asked]) == 0
    assert "pending" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "20.11.2026"])
def test_a_date_that_is_none_is_a_usage_error(
    data: DataSnapshot, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ask(data, "--domain", "example.org", "--reason", "asked", "--date", text)
    assert f"{text!r} is not a date" in capsys.readouterr().err
    assert not (data.collected.parent.parent / "takedowns.jsonl").exists()
