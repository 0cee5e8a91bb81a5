"""Sources of conversations: broken rows are counted, broken files are errors, what may not be trained on is left out."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.conversations.chat_screen import ChatScreen, Evaluated, index_turns
from pipeline.conversations.chats import SourceChat, find_source_files, read_sources
from pipeline.conversations.intake import Intake, write_train
from pipeline.conversations.params import ChatSource, Conversations
from pipeline.conversations.stage import check_sources
from pipeline.frame.errors import ParamError, UserError
from pipeline.frame.settings import check_section
from pipeline.screening.license_policy import make_policy
from pipeline.screening.params import Licenses
from pipeline.skills.skill import Example
from pipeline.storage.tables import HELDOUT, TableWriter, read_table, write_table
from tests.conftest import ROOT, read_yaml

SENTENCE = "in which year did the keeper of the lighthouse stop writing the weather into the book"


def make_row(number: int, reply: str = "Yes.") -> dict[str, Any]:
    return {"prompt": f"Question number {number}?", "completion": reply}


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read(folder: Path, screen: ChatScreen | None = None, **settings: Any) -> list[SourceChat]:
    values: dict[str, Any] = {"name": "own", "path": ".", "license": "MIT"} | settings
    source = ChatSource(**values)
    return list(read_sources(folder, [source], screen or ChatScreen()))


def list_rejects(chats: list[SourceChat]) -> list[tuple[str, str]]:
    return [(chat.locator, chat.error.reason) for chat in chats if chat.error]


def test_one_broken_row_never_ends_a_run(tmp_path: Path) -> None:
    rows = [
        make_row(1),
        "{broken",
        "",
        json.dumps([1]),
        {"chosen": "x"},
        {"prompt": "x", "completion": ""},
        make_row(2),
    ]
    write_rows(tmp_path / "deep" / "x.jsonl", rows)
    chats = read(tmp_path)
    assert [chat.line for chat in chats if not chat.error] == ["1", "7"]
    assert list_rejects(chats) == [
        ("deep/x.jsonl:2", "not_json"),
        ("deep/x.jsonl:4", "not_json"),
        ("deep/x.jsonl:5", "unknown_format"),
        ("deep/x.jsonl:6", "empty_turn"),
    ]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.jsonl.gz", "x.csv", "x.tsv", "x.parquet"])
def test_files_of_every_kind_are_read(name: str, tmp_path: Path) -> None:
    rows = [make_row(number) for number in range(3)]
    path, lines = tmp_path / name, "".join(json.dumps(row) + "\n" for row in rows)
    delimiter = "\t" if name == "x.tsv" else ","
    cells = "".join(f"{row['prompt']}{delimiter}{row['completion']}\n" for row in rows)
    if name == "x.parquet":
        write_table(path, pa.Table.from_pylist([{**row, "votes": 1} for row in rows]))
    else:
        data = {
            "x.json": json.dumps(rows),
            "x.csv": f"prompt,completion\n{cells}",
            "x.tsv": f"prompt\tcompletion\n{cells}",
        }
        text = data.get(name, lines).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert [chat.messages[0].text for chat in read(tmp_path)] == [row["prompt"] for row in rows]


def test_a_text_file_of_chatml_is_read(tmp_path: Path) -> None:
    talk = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    (tmp_path / "x.txt").write_text(f"{talk.format('a')}\n{talk.format('b')}\nloose text\n")
    chats = read(tmp_path)
    assert [(chat.line, chat.messages[0].text) for chat in chats if not chat.error] == [("1", "a"), ("6", "b")]
    assert list_rejects(chats) == [("x.txt:11", "chatml")]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("x.jsonl", b"", "no usable conversation\n.*an empty file"),
        ("x.jsonl", b'{"a": 1}\n{"b": 2}\n', r"no usable conversation\n.*2 rows; line 1: unknown_format"),
        ("x.jsonl", b"\xc3\x01\xff" * 50, "no usable conversation"),
        ("x.jsonl", '{"prompt": "a", "answer": "b"}'.encode("utf-16-le"), "without a byte order mark"),
        ("x.jsonl.gz", b"no gzip", "can't be read to its end"),
        ("x.jsonl.gz", gzip.compress(random.Random(1).randbytes(5_000))[:3_000], "can't be read to its end"),
        ("x.json", b'[{"prompt": "a", "answer": "b"}, {"pro', r"x\.json:2: is not JSON"),
        ("x.parquet", b"PAR1", "can't be read to its end"),
        ("x.txt", b"plain text\n", "no usable conversation"),
        ("x.xlsx", b"PK", "not a file of conversations"),
        (
            "x.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n",
            "not the file itself",
        ),
    ],
)
def test_a_file_that_can_not_be_used_is_an_error(name: str, data: bytes, error: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{error}[\s\S]*to do: "):
        read(tmp_path)


def test_a_file_cut_off_in_the_middle_is_an_error_that_names_the_last_row(tmp_path: Path) -> None:
    rows = [make_row(number, random.Random(number).randbytes(500).hex()) for number in range(2_000)]
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "x.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"can't be read to its end[\s\S]*\(after row \d\d\d+\)"):
        read(tmp_path)


def test_files_beside_conversations_are_left_alone_and_others_must_be_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [make_row(1)])
    for name in ("README.md", "LICENSE", "SOURCE.txt", ".hidden.jsonl", "_draft.jsonl"):
        (tmp_path / name).write_text("text")
    assert len(read(tmp_path)) == 1
    write_rows(tmp_path / "My chats.jsonl", [make_row(2)])
    with pytest.raises(UserError, match=r"no source names\n.*My chats\.jsonl\n.*name: my_chats, path: My chats\.jsonl"):
        read(tmp_path, path="a.jsonl")


@pytest.mark.parametrize("path", ["b.jsonl", "empty", "*.csv"])
def test_a_source_without_files_is_named(path: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [make_row(1)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"conversations\.sources\.0\.path: no"):
        read(tmp_path, path=path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "elsewhere" / "a.jsonl", [make_row(1)])
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of"):
        read(tmp_path / "chats", path="linked")


def test_equal_conversations_are_kept_once(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "a.jsonl", [make_row(1), make_row(2), {"prompt": "question  NUMBER 1?", "completion": "yes."}]
    )
    write_rows(
        tmp_path / "b.jsonl",
        [
            {"messages": [{"role": "user", "content": "Question number 2?"}, {"role": "assistant", "content": "Yes."}]},
            make_row(1, "No."),
        ],
    )
    assert list_rejects(read(tmp_path)) == [("a.jsonl:3", "duplicate"), ("b.jsonl:1", "duplicate")]
    plus, minus = ({"prompt": f"What is 2 {sign} 2?", "completion": "It is."} for sign in "+-")
    write_rows(tmp_path / "c.jsonl", [plus, minus])
    assert not list_rejects(read(tmp_path))[2:]


def test_licenses_are_judged_per_row(tmp_path: Path) -> None:
    rows = [make_row(1), {**make_row(2), "license": "GPL-3.0-only"}, {**make_row(3), "license": "apache 2.0"}]
    write_rows(tmp_path / "a.jsonl", rows)
    screen = ChatScreen(policy=make_policy(["MIT", "Apache-2.0"]))
    chats = read(tmp_path, screen)
    assert list_rejects(chats) == [("a.jsonl:2", "license_not_allowed")]
    assert [chat.license for chat in chats if not chat.error] == ["MIT", "apache 2.0"]


def test_a_license_that_is_not_permitted_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [make_row(1)])
    params = Conversations.model_construct(
        sources=[ChatSource(name="own", path=".", license="CC-BY-NC-4.0")], licenses=Licenses(allow=["MIT"])
    )
    with pytest.raises(UserError, match=r"conversations\.sources\.0\.license: not permitted\n.*CC-BY-NC-4\.0"):
        check_sources(params, tmp_path)


def count_words(conversations: Any) -> list[int]:
    return [sum(len(message.text.split()) for message in messages) for messages in conversations]


def test_long_conversations_are_left_out_without_being_encoded_if_very_long(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [make_row(1), make_row(2, "w " * 20), make_row(3, "x" * 1_000_000)])
    encoded: list[int] = []

    def count(conversations: Any) -> list[int]:
        encoded.extend(len(messages[1].text) for messages in conversations)
        return count_words(conversations)

    chats = read(tmp_path, ChatScreen(count_tokens=count, max_tokens=10))
    assert list_rejects(chats) == [("a.jsonl:2", "too_long"), ("a.jsonl:3", "too_long")]
    assert chats[0].n_tokens == 4
    assert max(encoded) < 1_000


def test_text_of_evaluation_sets_is_left_out(tmp_path: Path) -> None:
    items = [("turns:a#1", SENTENCE), ("turns:a#2", "is it you"), ("turns:a#3", "Which names are in there?")]
    evaluated = index_turns(items, "turns")
    assert isinstance(evaluated, Evaluated)
    rows = [
        {"prompt": f"Well, {SENTENCE.upper()} then?", "completion": "1801"},
        {"prompt": "is it you", "completion": "Yes."},
        {"prompt": "which NAMES are in there", "completion": "Two."},
        {"prompt": "Which names are there?", "completion": "Three."},
        {"prompt": "What does pkg.norm do?", "completion": "It sums."},
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    chats = read(tmp_path, ChatScreen(evaluated=[evaluated], names=["pkg.norm"]))
    assert list_rejects(chats) == [
        ("a.jsonl:1", "contaminated"),
        ("a.jsonl:3", "contaminated"),
        ("a.jsonl:5", "names_heldout"),
    ]
    assert "turns:a#1" in str(chats[0].error)


def test_a_source_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [make_row(1), make_row(2)])
    with pytest.raises(UserError, match=r"nothing of own can be trained on\n.*a\.jsonl:1: too_long"):
        read(tmp_path, ChatScreen(count_tokens=count_words, max_tokens=2))


def test_files_with_the_same_ids_are_both_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.jsonl", [{**make_row(1, f"Of {name}."), "id": "x"}])
    assert [chat.locator for chat in read(tmp_path)] == ["a.jsonl:1", "b.jsonl:1"]


def take(folder: Path, out: Path, sources: list[ChatSource], examples: list[Example]) -> Intake:
    out.mkdir()
    with TableWriter(out / "heldout.parquet", HELDOUT) as table:
        intake = Intake(out, table, 7, seed=1)
        intake.take_all(read_sources(folder, sources, ChatScreen()), sources)
    write_train(out / "train.parquet", examples, intake)
    return intake


def test_weights_held_out_conversations_and_rejects_add_up(tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    for name in ("a", "b", "c", "d"):
        write_rows(chats / f"{name}.jsonl", [make_row(number, f"{name} {number}") for number in range(400)] + ["{"])
    weights = {"a": 2.5, "b": 0.25, "c": 0.0}
    sources = [ChatSource(name=name, path=f"{name}.jsonl", license="MIT", weight=n) for name, n in weights.items()]
    sources += [ChatSource(name="d", path="d.jsonl", license="0BSD", heldout_frac=0.5)]
    examples = [Example("quote", [], {}, "skills") for _ in range(500)]
    intake = take(chats, tmp_path / "out", sources, examples)
    metrics = intake.make_metrics()
    assert metrics["n_chats_read"] == 1_604
    assert (
        metrics["n_chats_read"] == metrics["n_chats_kept"] + metrics["n_chats_heldout"] + metrics["n_rejected_not_json"]
    )
    assert metrics["n_rows_a"] == pytest.approx(1_000, abs=30)
    assert metrics["n_rows_b"] == pytest.approx(100, abs=30)
    assert metrics["n_rows_c"] == 0
    assert metrics["n_chats_heldout"] == pytest.approx(200, abs=40)

    train = read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert len(train) == 500 + metrics["n_chat_rows"]
    assert [row["id"] for row in train] == [f"train-{number:06d}" for number in range(len(train))]
    assert {(row["source"], row["license"]) for row in train if row["kind"] == "chat"} == {
        ("a", "MIT"),
        ("b", "MIT"),
        ("d", "0BSD"),
    }
    assert sum(row["source"] == "a" for row in train[: len(train) // 2]) == pytest.approx(500, abs=60)  # spread evenly
    heldout = read_table(tmp_path / "out" / "heldout.parquet").to_pylist()
    assert heldout[0]["id"] == "heldout-00007"
    assert not {row["messages"] for row in heldout} & {row["messages"] for row in train}
    rejects = read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert [(row["source"], row["locator"], row["reason"]) for row in rejects] == [
        (name, f"{name}.jsonl:401", "not_json") for name in "abcd"
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "train.parquet",
        "heldout.parquet",
        "rejects.parquet",
    }


def test_the_same_files_give_the_same_bytes_and_another_seed_another_order(tmp_path: Path) -> None:
    chats = tmp_path / "chats"
    write_rows(chats / "a.jsonl", [make_row(number) for number in range(300)])
    sources = [ChatSource(name="a", path="a.jsonl", license="MIT", weight=1.5)]
    for name in ("one", "two"):
        take(chats, tmp_path / name, sources, [])
    assert (tmp_path / "one" / "train.parquet").read_bytes() == (tmp_path / "two" / "train.parquet").read_bytes()
    order = read_table(tmp_path / "one" / "train.parquet")["locator"].to_pylist()
    assert order != sorted(order)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"format": "columns"}, "format: columns and the setting columns belong together"),
        ({"columns": {"user": "q", "assistant": "a"}}, "belong together"),
        ({"format": "columns", "columns": {"user": "q"}}, "name either messages, or user and assistant"),
        ({"format": "xml"}, "sources.0.format"),
        ({"path": "../x.jsonl"}, "relative to the stage's input folder"),
        ({"path": "/x.jsonl"}, "relative to the stage's input folder"),
        ({"name": "My chats"}, "sources.0.name"),
        ({"weight": -1.0}, "sources.0.weight"),
        ({"weigth": 1.0}, "did you mean weight"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], error: str) -> None:
    source = {"name": "a", "path": "a.jsonl", "license": "MIT"} | settings
    with pytest.raises(ParamError, match=error):
        check_section(Conversations, {"sources": [source], "licenses": ["MIT"]}, "params.yaml", prefix="conversations.")


def test_sources_of_the_same_name_and_sources_without_licenses_are_refused() -> None:
    values = read_yaml(ROOT / "params.yaml")["conversations"]
    source = {"name": "a", "path": "a.jsonl", "license": "MIT"}
    with pytest.raises(ParamError, match="two sources have the same name"):
        check_section(Conversations, {**values, "sources": [source, source]}, "params.yaml")
    with pytest.raises(ParamError, match="sources need licenses"):
        check_section(Conversations, {**values, "sources": [source], "licenses": None}, "params.yaml")


def test_files_of_a_source_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/1.jsonl", "a.jsonl"):
        write_rows(tmp_path / name, [make_row(1)])
    sources = [ChatSource(name="b", path="b", license="MIT"), ChatSource(name="a", path="*.jsonl", license="MIT")]
    found = find_source_files(tmp_path, sources)
    assert {name: [path.name for path in paths] for name, paths in found.items()} == {
        "b": ["1.jsonl", "2.jsonl"],
        "a": ["a.jsonl"],
    }
