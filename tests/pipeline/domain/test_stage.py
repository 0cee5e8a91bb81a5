"""The domain stage: items become conversations, and what is unusable is counted with its file and row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.domain.params import Domain
from pipeline.domain.stage import run
from pipeline.frame.errors import UserError
from pipeline.params import check_stage_params
from pipeline.storage.tables import read_table
from tests.conftest import ROOT, read_yaml

PARAMS = Domain(wordings=["Good or bad? {text}", "{text}\nGood or bad?"], reply="{label}")
GOOD = {"text": "Lovely {label} soup.", "label": "good"}
COLD = {"text": "Cold soup.", "label": "good"}


def write_items(folder: Path, train: str | list[dict[str, object]], heldout: str | list[dict[str, object]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("heldout", heldout)):
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def read_messages(path: Path) -> list[list[dict[str, str]]]:
    return [json.loads(text) for text in read_table(path).column("messages").to_pylist()]


def test_items_become_conversations_and_braces_in_their_texts_stay(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    items = write_items(tmp_path / "items", [dict(GOOD)], [dict(COLD)])
    assert run(PARAMS, items=items, out=tmp_path / "out") == {"n_train": 1, "n_heldout": 1}
    ((asked, reply),) = read_messages(tmp_path / "out/train.parquet")
    assert asked["content"] in ("Good or bad? Lovely {label} soup.", "Lovely {label} soup.\nGood or bad?")
    assert reply == {"role": "assistant", "content": "good"}
    (row,) = read_table(tmp_path / "out/heldout.parquet").to_pylist()
    assert row["expected"] == "good"


def test_unusable_rows_are_counted_by_reason_with_their_position(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    rows = [GOOD, COLD, {"text": "No label."}, {"text": "Empty.", "label": " "}, {**GOOD, "label": "other"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows) + "not JSON\n"
    items = write_items(tmp_path / "items", lines, [{"text": "COLD  soup.", "label": "good"}])
    metrics = run(PARAMS, items=items, out=tmp_path / "out")
    reasons = {name: n for name, n in metrics.items() if name.startswith("n_rejected_")}
    assert metrics["n_train"] == 1
    assert sum(reasons.values()) == 5
    assert reasons["n_rejected_field"] == 2
    assert reasons["n_rejected_duplicate"] == 1
    assert reasons["n_rejected_heldout"] == 1, "a training item that is also held out"
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert [(reject["file"], reject["row"]) for reject in rejects] == [("train.jsonl", n) for n in (2, 3, 4, 5, 6)]


@pytest.mark.parametrize("train", ["", "not JSON\n", '{"text": "a"}\n'])
def test_a_domain_without_a_usable_item_is_refused(train: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="no usable item") as caught:
        run(PARAMS, items=write_items(tmp_path / "items", train, [dict(COLD)]), out=tmp_path / "out")
    assert "text, label" in caught.value.do


def test_a_missing_or_ambiguous_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    items = write_items(tmp_path / "items", [dict(GOOD)], [dict(COLD)])
    (items / "heldout.csv").write_text("text,label\na,b\n")
    with pytest.raises(UserError, match="heldout file") as caught:
        run(PARAMS, items=items, out=tmp_path / "out")
    assert "heldout.csv, heldout.jsonl" in caught.value.found
    (items / "heldout.csv").unlink()
    (items / "heldout.jsonl").unlink()
    with pytest.raises(UserError, match="heldout file"):
        run(PARAMS, items=items, out=tmp_path / "out")


def test_adding_an_item_changes_no_other(tmp_path: Path) -> None:
    texts = [{"text": f"Soup number {n}.", "label": "good"} for n in range(20)]
    for name, rows in (("few", texts[5:]), ("all", texts)):
        (tmp_path / name).mkdir()
        run(PARAMS, items=write_items(tmp_path / "items", list(rows), [dict(COLD)]), out=tmp_path / name)
    few, whole = (read_messages(tmp_path / name / "train.parquet") for name in ("few", "all"))
    assert few == whole[5:]
    assert len({messages[0]["content"].startswith("Good or bad?") for messages in whole}) == 2


def test_choices_are_the_sentences_of_a_field_or_the_labels(tmp_path: Path) -> None:
    params = Domain(wordings=["{text}"], reply="{answer}", sentences_of="text")
    rows = [{"text": "One is red. Two is blue!", "answer": "Two is blue!"}]
    (tmp_path / "out").mkdir()
    run(params, items=write_items(tmp_path / "items", [{"text": "A. B.", "answer": "A."}], rows), out=tmp_path / "out")
    (choice,) = [json.loads(line) for line in (tmp_path / "out/choices.jsonl").read_text().splitlines()]
    assert choice["choices"] == ["One is red.", "Two is blue!"]
    assert choice["baseline"] == "One is red."
    wrong = [{"text": "One is red.", "answer": "It is green."}]
    items = write_items(tmp_path / "items", [{"text": "A. B.", "answer": "A."}], wrong)
    with pytest.raises(UserError, match=r"heldout\.jsonl:1: the reply is no sentence of text"):
        run(params, items=items, out=tmp_path / "out")


def test_a_wording_without_a_field_is_refused() -> None:
    with pytest.raises(ValueError, match="each one must contain"):
        Domain(wordings=["Hello."], reply="{label}")
    with pytest.raises(ValueError, match="no wording contains"):
        Domain(wordings=["{text}"], reply="{label}", sentences_of="passage")


@pytest.mark.parametrize("name", ["sentiment", "answers", "summaries"])
def test_the_seed_items_of_a_recipe_are_all_usable(name: str, tmp_path: Path) -> None:
    """Every reply is among the choices, and no held-out item is in train."""
    params = check_stage_params(read_yaml(ROOT / f"docs/recipes/{name}/params.yaml"), "domain")
    assert isinstance(params, Domain)
    metrics = run(params, items=ROOT / "data/seed/domains" / name, out=tmp_path)
    assert not [metric for metric in metrics if metric.startswith("n_rejected")]
    assert metrics["n_heldout"] >= 16
