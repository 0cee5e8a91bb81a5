"""Environment variables are validated when they are read, and an empty one counts as unset."""

from __future__ import annotations

import pytest

from pipeline.frame.environment import read, read_count, read_flag, read_seconds
from pipeline.frame.errors import UserError


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MINIGPT_DEVICE", "MINIGPT_COMPILE", "MINIGPT_MAX_RESTARTS", "MINIGPT_CHECKPOINT_SECONDS"):
        monkeypatch.setenv(name, "")
    assert read("MINIGPT_DEVICE") == "auto"
    assert read_flag("MINIGPT_COMPILE")
    assert read_count("MINIGPT_MAX_RESTARTS") == 3
    assert read_seconds("MINIGPT_CHECKPOINT_SECONDS") == 30.0


@pytest.mark.parametrize(
    ("reader", "name", "value"),
    [
        (read, "MINIGPT_SHARDING", "half"),
        (read_flag, "MINIGPT_KEEP_BEST", "yes"),
        (read_count, "MINIGPT_KEEP_EVERY", "often"),
        (read_count, "MINIGPT_KEEP_EVERY", "-1"),
        (read_seconds, "MINIGPT_CHECKPOINT_SECONDS", "soon"),
        (read_seconds, "MINIGPT_CHECKPOINT_SECONDS", "-1"),
        (read_seconds, "MINIGPT_CHECKPOINT_SECONDS", "nan"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    reader: object, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert callable(reader)
    with pytest.raises(UserError, match=f"{name}.*\n.*{value}"):
        reader(name)


def test_a_variable_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        read("MINIGPT_UNKNOWN")
