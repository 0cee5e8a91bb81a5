"""Pairs in the layouts that preference data has; what is unusable is counted with file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.frame.errors import UserError
from pipeline.prefer.pair_files import read_pairs

USER, GOOD, BAD = {"role": "user", "content": "Hi"}, "Hello!", "Go away."


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write(folder: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


LAYOUTS = {
    "texts": {"prompt": "Hi", "chosen": GOOD, "rejected": BAD},
    "messages": {"messages": [USER], "chosen": GOOD, "rejected": BAD},
    "one message a side": {"prompt": [USER], "chosen": [answer(GOOD)], "rejected": answer(BAD)},
    "whole conversations": {"prompt": "Hi", "chosen": [USER, answer(GOOD)], "rejected": [USER, answer(BAD)]},
    "transcripts": {
        "chosen": f"\n\nHuman: Hi\n\nAssistant: {GOOD}",
        "rejected": f"\n\nHuman: Hi\n\nAssistant: {BAD}",
    },
    "sharegpt": {
        "chosen": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": GOOD}],
        "rejected": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": BAD}],
    },
}


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_give_the_same_pair(row: dict[str, Any], tmp_path: Path) -> None:
    (pair,), rejects = read_pairs(write(tmp_path, row))
    assert rejects == []
    assert [message.text for message in (*pair.prompt, pair.chosen, pair.rejected)] == ["Hi", GOOD, BAD]
    assert [message.role for message in (*pair.prompt, pair.chosen)] == ["user", "assistant"]
    assert pair.id == "pairs.jsonl:1"


BROKEN = [
    ("{", "not_json"),
    ("[" * 100_000, "not_json"),
    ("3", "layout"),
    ({"prompt": "Hi", "chosen": GOOD}, "layout"),
    ({"chosen": GOOD, "rejected": BAD}, "layout"),
    ({"prompt": 3, "chosen": GOOD, "rejected": BAD}, "layout"),
    ({"prompt": "Hi", "chosen": GOOD, "rejected": 3}, "layout"),
    ({"prompt": "Hi", "chosen": [USER, answer(GOOD)], "rejected": [answer(BAD)]}, "layout"),
    ({"prompt": "Hi", "chosen": GOOD, "rejected": [USER]}, "roles"),
    ({"prompt": [USER, answer("Yes?")], "chosen": GOOD, "rejected": BAD}, "roles"),
    ({"prompt": "Hi", "chosen": GOOD, "rejected": " "}, "empty"),
    ({"prompt": "Hi", "chosen": [], "rejected": BAD}, "empty"),
    ({"prompt": " ", "chosen": GOOD, "rejected": BAD}, "empty"),
    ({"prompt": "Hi", "chosen": GOOD, "rejected": f" {GOOD}"}, "equal"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN)
def test_unusable_rows_are_rejected_with_their_line(row: Any, reason: str, tmp_path: Path) -> None:
    pairs, rejects = read_pairs(write(tmp_path, LAYOUTS["texts"], row))
    assert len(pairs) == 1
    assert [(reject.file, reject.line, reject.reason) for reject in rejects] == [("pairs.jsonl", 2, reason)]


def test_no_file_and_no_usable_pair_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no JSONL file"):
        read_pairs(tmp_path)
    with pytest.raises(UserError, match="no usable pair") as caught:
        read_pairs(write(tmp_path, "{"))
    assert "not_json" in caught.value.found
