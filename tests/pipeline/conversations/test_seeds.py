"""Seeds in every form that people have are read, or refused by file and line; braces in code stay."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from model.tokenizer.chat import Message, ToolCall
from pipeline.conversations.seeds import Seed, make_seed_examples, read_seeds
from pipeline.frame.errors import UserError
from pipeline.storage.tables import write_table

ASK = {"role": "user", "content": "Hi there"}
TALK = [ASK, {"role": "assistant", "content": "Hello."}]
TYPED = [Message.of("user", "Hi there"), Message.of("assistant", "Hello.")]
OWN = {"id": "a", "kind": "chat", "messages": TALK}
ALPACA = {"instruction": "Say hi.", "input": "", "output": "Hi."}
CALLS = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "What is norm?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "search_docs", "arguments": '{"query": "norm"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "A norm."},
    {"role": "assistant", "content": [{"type": "text", "text": "A "}, {"type": "text", "text": "norm."}]},
]


def read_one(folder: Path, name: str, data: bytes | str) -> Seed:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    (seed,) = read_seeds(folder).conversations
    return seed


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(OWN) + "\n",
        "\ufeff" + json.dumps(OWN),
        "\n\n  \n" + json.dumps(OWN) + "\r\n\r\n",
        "\r" + json.dumps(OWN) + "\r",
        json.dumps({"messages": TALK, "tools": [{"type": "function"}], "id": None}),
        json.dumps({"conversations": [{"from": "human", "value": "Hi there"}, {"from": "gpt", "value": "Hello."}]}),
        json.dumps({"messages": [{"role": "USER", "content": "Hi there"}, {"role": "Assistant", "content": "Hello."}]}),
        json.dumps({"prompt": "Hi there", "completion": "Hello."}),
        json.dumps({"prompt": TALK[:1], "completion": TALK[1:]}),
        json.dumps({"instruction": "Hi there", "context": "", "response": "Hello.", "category": "chat"}),
        json.dumps({**OWN, "messages": [{**ASK, "content": [{"type": "text", "text": "Hi there"}]}, TALK[1]]}),
    ],
)
def test_rows_of_many_forms_are_read(text: str, tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        assert read_one(tmp_path, "x.jsonl", text.encode(encoding))["messages"] == TYPED


@pytest.mark.parametrize("name", ["x.json", "x.ndjson.gz", "deep/x.JSONL", "x.csv", "x.tsv", "x.parquet"])
def test_files_of_many_kinds_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    cell = json.dumps(TALK)
    if name.endswith(".parquet"):
        write_table(path, pa.Table.from_pylist([{"messages": TALK, "score": 1}]))
    elif name.endswith(".csv"):
        path.write_text('messages,split\r\n"' + cell.replace('"', '""') + '",\r\n')
    elif name.endswith(".tsv"):
        path.write_text(f"conversations\tsystem\n{cell}\t\n")
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(json.dumps(OWN).encode()))
    else:
        path.write_text(json.dumps([OWN], indent=1) if name == "x.json" else json.dumps(OWN))
    (seed,) = read_seeds(tmp_path).conversations
    assert seed["messages"] == TYPED


@pytest.mark.parametrize("breaker", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_a_line_break_of_unicode_is_text(breaker: str, tmp_path: Path) -> None:
    row = {**OWN, "messages": [{**ASK, "content": f"Hi{breaker}there"}, TALK[1]]}
    text = json.dumps(row, ensure_ascii=breaker in "\x0b\x0c")
    assert read_one(tmp_path, "x.jsonl", text)["messages"][0].text == f"Hi{breaker}there"


def test_calls_results_and_parts_are_read(tmp_path: Path) -> None:
    assert read_one(tmp_path, "x.jsonl", json.dumps({"messages": CALLS}))["messages"] == [
        Message.of("system", "Be brief."),
        Message.of("user", "What is norm?"),
        Message.calling(ToolCall.of("search_docs", "norm", "c")),
        Message.result("A norm.", "c"),
        Message.of("assistant", "A norm."),
    ]


def test_a_line_of_a_megabyte_is_read(tmp_path: Path) -> None:
    row = {**OWN, "messages": [{**ASK, "content": "x" * 1_000_000}, TALK[1]]}
    assert len(read_one(tmp_path, "x.jsonl", json.dumps(row))["messages"][0].text) == 1_000_000


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({**OWN, "messages": [ASK, {"role": "assistant", "content": None}]}, "turn 2, the assistant's, has no text"),
        ({**OWN, "messages": [{"role": "user", "content": " "}, TALK[1]]}, "turn 1, the user's, has no text"),
        (
            {**OWN, "messages": [{"role": "robot", "content": "x"}, TALK[1]]},
            r"messages\[0\]\.role is unknown; found 'robot'",
        ),
        ({**OWN, "messages": "Hi"}, "turns that are text but not JSON"),
        ({**OWN, "messages": {"role": "user"}}, "a list of turns is missing; found dict"),
        ({**OWN, "messages": [ASK]}, "the last turn is the user's"),
        ({**OWN, "messages": [{**ASK, "content": "\ud83d"}, TALK[1]]}, "half of a surrogate pair"),
        (
            {**OWN, "messages": [{**ASK, "content": [{"type": "image_url"}]}, TALK[1]]},
            r"content\[0\] must be text; found 'image_url'",
        ),
        ({**OWN, "messages": [{**ASK, "weight": 1}, TALK[1]]}, "weight is unknown"),
        ({**OWN, "kind": "poem"}, "kind must be one of"),
        ({**OWN, "id": 3}, "id a string"),
        ({**OWN, "wordings": "Hi"}, "wordings must be a list of texts"),
        ({**OWN, "wordings": []}, "wordings must be a list of texts"),
        ({**OWN, "placeholders": ["nmae"]}, "placeholders must be among name, got nmae"),
        ({**OWN, "wordngs": ["x"]}, "keys must be id, kind, messages"),
        ({"messages": TALK, "wordings": ["x"]}, "wordings is no field of the format messages"),
        ({"conversations": TALK, "chosen": "x"}, "chosen is no field of the format sharegpt"),
        ({"chosen": "x", "rejected": "y"}, "fields chosen, rejected; known are messages, "),
        ({**ALPACA, "output": ["3"]}, "the reply must be text; found list"),
        ({**ALPACA, "output": ""}, "turn 2, the assistant's, has no text"),
        ([OWN], "not an object"),
        ("Hi", "not an object"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(bad: Any, error: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({**OWN, "id": "first"}) + "\n\n" + json.dumps(bad) + "\n")
    with pytest.raises(UserError, match=rf"x\.jsonl:3: [\s\S]*{error}[\s\S]*to do: "):
        read_seeds(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("x.jsonl", json.dumps(OWN)[:-1].encode() + b",}", "x.jsonl:1: is not JSON"),
        ("x.jsonl", b'{"id": "\xff"}', "x.jsonl:1: is not readable: not UTF-8"),
        ("x.jsonl", json.dumps(OWN).encode("utf-16-le"), "x.jsonl:1: .*\n.*without a byte order mark"),
        ("x.json", json.dumps([OWN]).encode()[:-1] + b",", "x.json:2: is not JSON"),
        ("x.csv", b'id,kind,messages\na,chat,"[{"\n', "x.csv:1: not a conversation\n.*not JSON"),
        ("x.csv", b"prompt,completion\nHi\n", "x.csv:1: has another number of fields"),
        ("x.csv", b"prompt,completion\nH\xffi,Hello\n", "x.csv:1: .*\n.*surrogate"),
        ("x.parquet", b"PAR1", "x.parquet: can't be read"),
        ("x.jsonl.gz", b"no gzip", "x.jsonl.gz: can't be read"),
        ("x.jsonl.gz", gzip.compress(json.dumps(OWN).encode()) + b"more", "x.jsonl.gz: can't be read to its end"),
        ("x.xlsx", b"PK", "x.xlsx: not a file of conversations"),
        ("x", b"{}", "x: not a file of conversations"),
    ],
)
def test_a_broken_file_is_named(name: str, data: bytes, error: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=error):
        read_seeds(tmp_path)


def test_an_id_that_is_used_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(OWN))
    (tmp_path / "b.jsonl").write_text(json.dumps(ALPACA) + "\n" + json.dumps(ALPACA) + "\n" + json.dumps(OWN))
    with pytest.raises(UserError, match=r"b\.jsonl:3: the id is used twice\n.*'a', first in .*a\.jsonl:1"):
        read_seeds(tmp_path)


def test_lists_may_have_marks_and_other_line_ends(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfAda\r\n\r\nAlan\rAmara")
    (tmp_path / "systems.txt").write_bytes("You are {name}.\n".encode("utf-16"))
    (tmp_path / "README.md").write_text("no seeds")
    assert read_seeds(tmp_path) == ([], ["Ada", "Alan", "Amara"], ["You are {name}."])


def fill(seed: dict[str, Any], folder: Path) -> list[list[Message]]:
    seed = read_one(folder, "x.jsonl", json.dumps({"id": "a", "kind": "chat", **seed}))
    return [example.messages for example in make_seed_examples([seed], ["Ada", "Ravi"], Random(1), is_heldout=False)]


def test_only_declared_placeholders_are_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = [{**ASK, "content": "An f-string with {name}"}, {"role": "assistant", "content": 'f"{name} {wording}"'}]
    assert [message.text for message in fill({"messages": code}, tmp_path)[0]] == [row["content"] for row in code]
    assert '{name} stays as it is in 1 seeds without "placeholders"' in capsys.readouterr().out
    named = fill({"messages": code, "placeholders": ["name"]}, tmp_path)[0]
    assert [message.text for message in named] == ["An f-string with Ravi", 'f"Ravi {wording}"']
    assert capsys.readouterr().out == ""


def test_wordings_fill_messages_and_calls(tmp_path: Path) -> None:
    call = {"role": "assistant", "call": {"name": "search_docs", "argument": "{wording}"}}
    messages = [{**ASK, "content": "Find {wording}"}, call]
    assert fill({"messages": messages, "wordings": ["a {name}", "b"]}, tmp_path) == [
        [Message.of("user", f"Find {text}"), Message.calling(ToolCall.of("search_docs", text))]
        for text in ("a {name}", "b")
    ]
