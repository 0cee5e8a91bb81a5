"""Two versions compared: what differs is shown, what one of both lacks is named, and nothing else is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pipeline.evaluate.item_scores import ItemScore, make_item_table
from pipeline.frame.errors import UserError
from pipeline.registry.__main__ import main
from pipeline.registry.paired.contrast import contrast, read_side
from pipeline.registry.params import Registry
from pipeline.storage.tables import write_table
from tests.conftest import ROOT

POLICY = Registry(goals=["bpb", "typo"], false_promotion=0.05, false_refusal=0.1, when_equal="keep", noise=None)
MESSAGES = json.dumps([{"role": "user", "content": "What is <b>len</b>?"}])
LOCK = """schema: '2.0'
stages:
  sft:
    cmd: python -m pipeline sft
    outs:
    - {path: data/sft, md5: %s}
    - {path: data/metrics/sft.json, md5: %s}
"""


def write_pipeline(root: Path, right: str, **settings: Any) -> Path:
    """Write a finished pipeline that is right on the items in `right`, of a to f; every bits-per-byte item is 1."""
    (root / "data/metrics").mkdir(parents=True)
    (root / "data/evaluate").mkdir()
    skill = [
        ItemScore(
            "quote_exact_frac", each, float(each in right), prompt=MESSAGES, answer=f"{root.name} says", expected="yes"
        )
        for each in "abcdef"
    ]
    unseen = [ItemScore("user_turns_acceptable_frac", "u", float("a" in right))]
    text = [ItemScore("bpb", f"doc{i}", 5.0, size=5.0) for i in range(40)]
    write_table(root / "data/evaluate/items.parquet", make_item_table("task", [*skill, *unseen, *text]))
    metrics = {"bpb": 1.0, "quote_exact_frac": len(right) / 6, "quote_exact_frac_se": 0.1}
    (root / "data/metrics/evaluate.json").write_text(json.dumps(metrics))
    composition = {
        "documents": [{"source": "web", "license": "MIT", "docs": 1, "tokens": 1_000 * len(right), "bytes": 1}]
    }
    (root / "data/evaluate/composition.json").write_text(json.dumps(composition))
    lines = "".join(f"  {name}: {value}\n" for name, value in settings.items())
    (root / "params.yaml").write_text(f"sft:\n{lines}")
    (root / "dvc.lock").write_text(LOCK % (right * 2, right * 2))
    return root


@contextlib.contextmanager
def open_nothing() -> Generator[Any]:
    raise AssertionError("a folder needs no store")
    yield


def read(root: Path) -> Any:
    return read_side(str(root), open_nothing)


def test_what_differs_is_found(tmp_path: Path) -> None:
    old, new = (
        write_pipeline(tmp_path / "old", "abcd", seed=1, steps=9),
        write_pipeline(tmp_path / "new", "bcdef", seed=2, steps=9),
    )
    facts = contrast(POLICY, read(old), read(new))
    assert (facts.before, facts.after) == ("old", "new")
    assert facts.settings == [("sft.seed", "1", "2")]
    assert facts.data == [
        ("data/sft", "abcdabcd", "bcdefbcdef"),
        ("documents: web", "4,000 tokens", "5,000 tokens"),
    ]
    lost = {item.id: item for item in facts.lost}
    assert set(lost) == {"a", "u"}
    assert (lost["a"].before, lost["a"].after, lost["a"].expected) == ("old says", "new says", "yes")
    assert "not shown" in lost["u"].prompt
    assert [item.id for item in facts.gained] == ["e", "f"]
    assert {row.metric for row in facts.decision} == {"bpb", "quote_exact_frac", "user_turns_acceptable_frac"}
    assert contrast(POLICY, read(old), read(old)).settings == []


def test_a_pipeline_of_an_earlier_release_is_compared_by_its_values(tmp_path: Path) -> None:
    old, new = write_pipeline(tmp_path / "old", "abcd"), write_pipeline(tmp_path / "new", "bcdef")
    for name in ("items.parquet", "composition.json"):
        (old / "data/evaluate" / name).unlink()
    for name in ("params.yaml", "dvc.lock"):
        (old / name).unlink()
    rows = {row.metric: row.rule for row in contrast(POLICY, read(old), read(new)).decision}
    assert rows["quote_exact_frac"].startswith("unpaired: the champion has no scores by item")
    assert rows["bpb"] == "the champion has no scores by item, and no standard errors"


@pytest.mark.parametrize("name", ["nowhere", "models:/other/1", "models:/minigpt", "http://example.org"])
def test_what_is_no_version_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"neither a finished pipeline nor a version\n.*\n.*models:/minigpt/N"):
        read_side(name, open_nothing)


def test_the_command_writes_page_and_markdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    old, new = write_pipeline(tmp_path / "old", "abcd"), write_pipeline(tmp_path / "new", "bcdef")
    assert (
        main(["compare", str(old), str(new), "--out", str(tmp_path / "out"), "--json", str(tmp_path / "o.json")]) == 0
    )
    assert "2 items wrong that were right, 2 right that were wrong" in capsys.readouterr().out
    page, text = ((tmp_path / "out" / name).read_text() for name in ("compare.html", "compare.md"))
    assert "What is &lt;b&gt;len&lt;/b&gt;?" in page
    assert "<b>" not in page
    for part in ("Right before, wrong now: 2 items", "old says", "new says", "5,000 tokens"):
        assert part in page
        assert part in text
    assert json.loads((tmp_path / "o.json").read_text())["verdicts"]["bpb"] == "equal"
    assert main(["compare", str(old), str(tmp_path / "no")]) == 1
    assert "no such folder" in capsys.readouterr().err
