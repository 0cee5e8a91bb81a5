"""Progress in a pipe consists of whole lines, without carriage returns, and its numbers are correct."""

from __future__ import annotations

import pytest

from pipeline.frame import progress
from pipeline.frame.progress import Bar, clock, short


@pytest.fixture(autouse=True)
def show_rates_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEAST_SECONDS", 0.0)


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("dedupe", 10, "docs", line_seconds=0.0) as bar:
        for _ in range(10):
            bar.advance(note="loss 1.5")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert "5/10 docs" in lines[4]
    assert "50%" in lines[4]
    assert "left" in lines[4]
    assert lines[-1].startswith("dedupe [########################] 100% 10/10 docs")
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_resumed_work_is_not_in_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("pretrain", 1_000_000, "steps", line_seconds=0.0) as bar:
        bar.start_at(999_990)
        bar.advance(5)
        assert bar._rate() != ""
        assert "999995" not in bar._rate()
    assert "100%" in capsys.readouterr().out


def test_an_unknown_total_has_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("download", 0, "docs", line_seconds=0.0) as bar:
        bar.advance(3)
    assert capsys.readouterr().out.startswith("download 3 docs, ")


def test_numbers_and_durations_are_formatted() -> None:
    assert [short(n) for n in (0, 999, 1_234, 1_234_567, 2e9)] == ["0", "999", "1.23k", "1.23M", "2G"]
    assert [clock(s) for s in (0, 59.6, 185, 3_725)] == ["0:00", "1:00", "3:05", "1:02:05"]
