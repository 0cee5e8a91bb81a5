"""Collecting a finished pipeline for publication, and refusing an unfinished one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import xxhash

from pipeline.frame.errors import UserError
from pipeline.frame.metrics import write_json
from pipeline.registry.lineage import (
    collect_publication,
    compute_fingerprint,
    extract_lineage,
    read_curve,
    read_lock,
    read_stage_metrics,
    read_stage_timings,
)
from tests.fake_repo import FakeRepo

ENTRY = {"cmd": "make", "deps": [{"path": "a", "md5": "1", "size": 3}], "outs": [{"path": "b", "md5": "2"}]}


def locked(path: str, md5: str, **more: Any) -> dict[str, Any]:
    return {"cmd": "make", "outs": [{"path": path, "md5": md5}], "params": {"params.yaml": {"seed": 1}}, **more}


def test_the_fingerprint_depends_on_outputs_and_params_and_not_on_their_order() -> None:
    stages = {
        "sft": locked("data/sft", "1"),
        "evaluate": locked("data/evaluate", "2"),
        "filter": locked("data/filter", "3"),
    }
    base = compute_fingerprint({"schema": "2.0", "stages": stages})
    assert compute_fingerprint({"stages": dict(reversed(stages.items())), "schema": "2.0"}) == base
    same = {"sft": locked("data/sft", "1", cmd="make again", deps=[{"path": "code.py", "md5": "9"}])}
    assert compute_fingerprint({"stages": stages | same | {"filter": locked("data/filter", "4")}}) == base
    for changed in (
        {"sft": locked("data/sft", "9")},
        {"evaluate": locked("data/evaluate", "9")},
        {"index": locked("data/index", "9")},
        {"filter": locked("data/filter", "3", params={"params.yaml": {"seed": 2}})},
    ):
        assert compute_fingerprint({"stages": stages | changed}) != base
    with pytest.raises(UserError, match="there is no model"):
        compute_fingerprint({"stages": {"filter": locked("data/filter", "3")}})


@pytest.mark.slow
def test_two_clones_have_one_fingerprint_and_a_changed_weight_or_param_has_another(tmp_path: Path) -> None:
    repos = [FakeRepo(tmp_path / name) for name in ("here", "elsewhere")]
    code = repos[1].root / "make.py"
    code.write_text(code.read_text() + "# a comment\n")
    for repo in repos:
        repo.repro()
    locks = [read_lock(repo.root) for repo in repos]
    assert locks[0] != locks[1]
    assert compute_fingerprint(locks[0]) == compute_fingerprint(locks[1])

    params = repos[1].root / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("  n_samples: 8\n", "  n_samples: 9\n"))
    repos[1].repro()
    assert compute_fingerprint(read_lock(repos[1].root)) != compute_fingerprint(locks[0])
    params.write_text(text)
    repos[1].repro(bpb=1.3)
    assert compute_fingerprint(read_lock(repos[1].root)) != compute_fingerprint(locks[0])
    repos[1].repro()
    assert compute_fingerprint(read_lock(repos[1].root)) == compute_fingerprint(locks[0])


def test_lineage_lists_all_inputs_and_outputs() -> None:
    found = extract_lineage({"stages": {"x": ENTRY, "y": {"cmd": "go"}}})
    assert found["x"] == {"cmd": "make", "deps": [{"path": "a", "md5": "1"}], "outs": [{"path": "b", "md5": "2"}]}
    assert found["y"] == {"cmd": "go", "deps": [], "outs": []}


def test_metrics_and_curves_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "data/metrics").mkdir(parents=True)
    (tmp_path / "data/metrics/filter.json").write_text('{"docs_in": 3}')
    assert read_stage_metrics(tmp_path, ["filter", "sft"]) == {"filter.docs_in": 3.0}
    write_json(tmp_path / "var/timings/filter.json", {"seconds": 2.5, "metrics_xxh3": "of another run"})
    assert read_stage_timings(tmp_path, ["filter", "sft"]) == {}
    digest = xxhash.xxh3_128_hexdigest(b'{"docs_in": 3}')
    write_json(tmp_path / "var/timings/filter.json", {"seconds": 2.5, "metrics_xxh3": digest})
    assert read_stage_timings(tmp_path, ["filter", "sft"]) == {"filter.seconds": 2.5}
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1, "loss_nats": 2.5, "note": "x"}\n\n{"step": 2, "loss_nats": NaN, "lr": 0}\n')
    assert [(p.name, p.step, p.value) for p in read_curve(path, "sft")] == [("sft/loss_nats", 1, 2.5), ("sft/lr", 2, 0)]
    assert read_curve(tmp_path / "none.jsonl", "sft") == []


@pytest.mark.slow
def test_an_unfinished_or_stale_pipeline_is_refused_by_name(tmp_path: Path) -> None:
    repo = FakeRepo(tmp_path)
    with pytest.raises(UserError, match=r"dvc\.lock: no such file"):
        read_lock(tmp_path)
    repo.repro()
    work = collect_publication(tmp_path)
    assert work.metrics["sft.steps"] == 3
    assert json.dumps(work.lineage["evaluate"]["deps"]).count("data/sft") == 1
    repo.knobs(bpb=9)
    with pytest.raises(UserError, match=r"stale\n.*sft: knobs.json modified"):
        collect_publication(tmp_path)
    repo.knobs()
    (tmp_path / "data/sft/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"stale\n.*data/sft"):
        collect_publication(tmp_path)
