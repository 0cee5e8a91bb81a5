"""The command line of the benchmarks, their runner, and the README's table of peers, which has a row for every benchmark."""

from __future__ import annotations

import inspect
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import PARSERS, claim, find_benchmarks, load_benchmark, main
from benchmarks.measure import Result, Work, compare, measure_rate, require_checkout, use_one_core
from pipeline.frame.errors import UserError
from tests.conftest import ROOT

WORK = Work("a loop", "loops/s", 1.0, "a longer loop")


def table_rows() -> list[list[str]]:
    """The rows of the README's table that has a column `benchmark`."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith("|") and line.endswith("| benchmark |"))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_readme_has_a_row_for_every_benchmark_and_every_row_names_one() -> None:
    names = [re.fullmatch(r"\[?`?([a-z_]+)`?\]?(\(\S+\))?", row[-1]) for row in table_rows()]
    assert all(names), "a row names no benchmark"
    assert {match[1] for match in names if match} == set(find_benchmarks())


@pytest.mark.parametrize("name", sorted(find_benchmarks()))
def test_every_benchmark_states_its_claim_and_has_options_that_the_command_line_knows(name: str) -> None:
    assert claim(name).endswith(".")
    pytest.importorskip("datatrove")
    parameters = inspect.signature(load_benchmark(name)).parameters.values()
    assert all(parameter.kind == parameter.KEYWORD_ONLY for parameter in parameters)
    assert {str(parameter.annotation) for parameter in parameters} <= PARSERS.keys()


def loop(n: int) -> int:
    return sum(i * i for i in range(n)) > 0


def test_the_ratio_is_how_many_times_faster_ours_is() -> None:
    result = compare(WORK, lambda: loop(20_000), lambda: loop(400_000), is_same=lambda ours, peer: ours == peer)
    assert result.ratio is not None
    assert 8 < result.ratio < 50
    assert Result("", "s", 2.0, 6.0, is_cost=True).ratio == 3.0
    assert Result("", "s", 2.0).ratio is None


def test_different_work_is_refused() -> None:
    with pytest.raises(UserError, match="differ"):
        compare(WORK, lambda: np.array([1, 2]), lambda: np.array([1, 3]))


def test_one_core_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    import pyarrow as pa

    monkeypatch.delenv("MINIGPT_ENGINE", raising=False)
    before = pa.cpu_count()
    with use_one_core():
        assert (os.environ["MINIGPT_ENGINE"], pa.cpu_count()) == ("serial", 1)
    assert ("MINIGPT_ENGINE" in os.environ, pa.cpu_count()) == (False, before)
    assert measure_rate(lambda: loop(1_000), 1.0, 1) > 0


def test_results_are_written_with_machine_date_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*, n_docs: int = 5, sizes_mb: tuple[int, ...] = (1,)) -> Result:
        return Result(f"{n_docs} {sizes_mb}", "docs/s", 10.0, 4.0, "other", details=[{"what": "x", "s": 1.5}])

    monkeypatch.setattr(command, "load_benchmark", lambda name: run)
    file = tmp_path / "results.json"
    assert main(["dedupe", "scale", "--n-docs", "7", "--sizes-mb", "2,3", "--json", str(file)]) == 0
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert {"machine", "python", "date", "commit"} < saved.keys()
    assert [row["name"] for row in saved["results"]] == ["dedupe", "scale"]
    assert saved["results"][0]["ratio"] == 2.5
    assert saved["results"][0]["work"] == "7 (2, 3)"
    printed = capsys.readouterr().out
    assert "other" in printed
    assert "1.5" in printed


def test_the_list_has_every_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "load_benchmark", lambda name: lambda: None)
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == list(find_benchmarks())


def test_a_missing_peer_is_an_error_only_where_the_benchmark_was_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "load_benchmark", lambda name: lambda: require_checkout(name, "nanogpt", None))
    assert main(["time_to_loss"]) == 1
    assert "--nanogpt PATH" in capsys.readouterr().err
    assert main([]) == 0


@pytest.mark.parametrize("name", ["time_to_loss", "five_minutes"])
def test_a_checkout_that_does_not_exist_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--nanogpt", "nowhere"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_an_unknown_benchmark_is_a_usage_error_that_lists_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_benchmarks", lambda: {"first": Path(), "second": Path()})
    monkeypatch.setattr(command, "load_benchmark", lambda _: lambda: None)
    with pytest.raises(SystemExit):
        main(["thrid"])
    assert "no benchmark 'thrid': choose from first, second" in capsys.readouterr().err


def test_the_help_shows_defaults_as_they_are_typed() -> None:
    assert [command.describe_default(value) for value in (None, (), 3, (50, 500))] == [
        "",
        "",
        " (default: 3)",
        " (default: 50,500)",
    ]


def test_a_file_that_can_not_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_benchmarks", lambda: {"first": Path()})
    monkeypatch.setattr(command, "load_benchmark", lambda _: lambda: pytest.fail("must not run"))
    for path in (tmp_path, tmp_path / "nosuch" / "x.json"):
        with pytest.raises(SystemExit):
            main(["first", "--json", str(path)])
        assert "is not a file in an existing folder" in capsys.readouterr().err
