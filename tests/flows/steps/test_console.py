"""One line = time | stage | text, without DVC's own messages."""

from __future__ import annotations

import logging

import pytest

from flows.steps.console import Line, OursOnly, format_line, is_noise, strip_stage

DVC_MESSAGES = [
    "",
    "Running stage 'filter':",
    "> python -m pipeline filter --docs data/dedupe",
    "Stage 'filter' didn't change, skipping",
    "Stage 'filter' is cached - skipping run, checking out outputs",
    "Updating lock file 'dvc.lock'",
    "Generating lock file 'dvc.lock'",
    "To track the changes with git, run:",
    "\tgit add dvc.lock",
    "To enable auto staging, run:",
    "\tdvc config core.autostage true",
    "Use `dvc push` to send your updates to remote storage.",
    "Data and pipelines are up to date.",
    "ERROR: failed to reproduce 'filter': failed to run: python …, exited with 1",
    "WARNING: 'data/takedowns.jsonl' is empty.",
    "WARNING: Process 'dvc repro --single-item download' with (Pid 77), in RWLock-file 'data/download' had been killed."
    " Auto removed it from the lock file.",
    "W1130 08:13:26.762000 11844 torch/distributed/elastic/agent/server/api.py:753] Received 2 death signal, shutting down",
    "[W1130 08:13:26.100000000 TCPStore.cpp:125] [c10d] recvValue failed on SocketImpl(fd=5)",
    "[rank1]:[W1130 08:13:26.100000000 ProcessGroupGloo.cpp:9] Warning: destroy_process_group() was not called",
]


@pytest.mark.parametrize("text", DVC_MESSAGES)
def test_messages_of_dvc_are_left_out(text: str) -> None:
    assert is_noise(text)


@pytest.mark.parametrize(
    "text",
    [
        *("filter [###] 10%", "error: no", "  found: x", "ERROR: Unable to acquire lock", "-> x"),
        "WARNING: 'data/raw' is empty.",
        "E1130 08:13:26.762000 11844 torch/distributed/elastic/agent/server/api.py:7] failed",
    ],
)
def test_messages_of_stages_are_not_left_out(text: str) -> None:
    assert not is_noise(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("filter: done in 3 s", "done in 3 s"),
        ("filter [###] 10% 1k/10k docs", "[###] 10% 1k/10k docs"),
        ("filters are set", "filters are set"),
        ("filter is set", "filter is set"),
        ("  found: filter: x", "  found: filter: x"),
    ],
)
def test_the_stage_is_printed_once(text: str, shown: str) -> None:
    assert strip_stage("filter", text) == shown


def test_a_line_has_three_columns() -> None:
    assert [part.strip() for part in format_line("filter", "a | b").split("|", 2)][1:] == ["filter", "a | b"]


def test_only_our_own_records_and_foreign_errors_are_shown() -> None:
    def record(name: str, level: int, **extra: str) -> logging.LogRecord:
        log_record = logging.LogRecord(name, level, "", 0, "text %s", ("x",), None)
        log_record.__dict__.update(extra)
        return log_record

    wanted = OursOnly().filter
    ours = record("prefect.task_runs", logging.INFO, stage="filter")
    assert wanted(ours)
    assert "| filter" in Line().format(ours)
    assert Line().format(ours).endswith("| text x")
    assert not wanted(record("prefect.task_runs", logging.ERROR))
    assert not wanted(record("urllib3", logging.WARNING))
    assert wanted(record("asyncio", logging.ERROR))
