"""Trials elsewhere: the workspace, its comments, results and Git stay as they are; wrong values change nothing at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.sweep.compare import compare, copy_workspace, main, parse_values
from tests.conftest import ROOT
from tests.fake_repo import DVC_YAML, FakeRepo


def read_all(root: Path) -> dict[str, bytes]:
    """Return the content of every file of a workspace outside var/ and DVC's own folder."""
    files = (
        path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] not in ("var", ".dvc")
    )
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_values_are_yaml() -> None:
    values = parse_values(["a.b=3e-4", "c.d=null", "e=[x, y]", "f={3: 0.5}", "g=text=1"])
    assert values == {"a.b": 0.0003, "c.d": None, "e": ["x", "y"], "f": {3: 0.5}, "g": "text=1"}
    for wrong in ("a.b", "=1", "a..b=1", "-S", "a b=1", "a=[1"):
        with pytest.raises(UserError):
            parse_values([wrong])


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("filter.gopher_quality.min_words=many", r"filter\.gopher_quality\.min_words"),
        ("filter.gopher_quality.min_wrods=8", r"min_wrods"),
        ("filtr.gopher_quality.min_words=8", r"filtr"),
        ("pretrain.training.matrix_lr=7", r"matrix_lr"),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_written(tmp_path: Path, value: str, named: str) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with pytest.raises(UserError, match=named):
        compare(tmp_path, parse_values([value]), "filter")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_the_copy_has_your_texts_and_no_results(tmp_path: Path) -> None:
    root, trial = tmp_path / "here", tmp_path / "there"
    for name in ("pipeline/a.py", "pipeline/__pycache__/a.pyc", "model/b.py", "data/raw/book.txt", "data/out/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "data/raw/link.txt").symlink_to("book.txt")
    (root / "dvc.yaml").write_text(
        "stages:\n  get:\n    deps: [pipeline/x, data/raw]\n    outs: [data/out]\n"
        "  use:\n    deps: [data/out/x, lock]\n    outs: [{data/m.json: {cache: false}}]\n"
    )
    trial.mkdir()
    for _ in range(2):
        copy_workspace(root, trial)
        files = {str(path.relative_to(trial)) for path in trial.rglob("*") if path.is_file()}
        names = {"pipeline/a.py", "model/b.py", "data/raw/book.txt", "data/raw/link.txt", "dvc.yaml", ".dvc/config"}
        assert files == names
        assert (trial / "data/raw/link.txt").read_text() == "data/raw/book.txt"
        assert (trial / "pipeline/a.py").stat().st_nlink == 1
        (root / "data/raw/book.txt").unlink()
        (root / "data/raw/book.txt").write_text("data/raw/book.txt")


@pytest.mark.slow
def test_a_trial_changes_nothing_here_and_shares_the_cache(tmp_path: Path) -> None:
    repo = FakeRepo(tmp_path / "repo")
    (repo.root / "dvc.yaml").write_text(
        DVC_YAML.replace("deps: [make.py, knobs.json]", "deps: [make.py, knobs.json]\n    params: [shard]")
        .replace("metrics: [data/metrics/evaluate.json: {cache: false}]", "")
        .replace("outs: [data/evaluate]", "outs: [data/evaluate, data/metrics/evaluate.json: {cache: false}]")
    )
    code = repo.root / "make.py"
    code.write_text(
        code.read_text() + '\n    (out / "summary.json").write_text(json.dumps({"bpb": metrics_out["bpb"]}))\n'
    )
    repo.repro()
    before = read_all(repo.root)
    command = [sys.executable, "-m", "pipeline.sweep.compare", "evaluate.n_samples=9"]
    for n_runs in (1, 0):  # the second time there is nothing to do
        done = subprocess.run(
            command, cwd=repo.root, env=repo.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("Running stage") == n_runs
        assert "Running stage 'sft'" not in done.stdout
        assert [line.split() for line in done.stdout.splitlines() if "bpb" in line] == [
            ["bpb", "1.39427", "1.39427", "+0"]
        ]
    assert read_all(repo.root) == before


def test_outside_a_repository_it_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate.seed=2"]) == 1
    assert "params.yaml: no such file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
