"""The commands of `python -m service`: each imports the module that adds it, and no other."""

from __future__ import annotations

import argparse
from importlib import import_module

import pytest

from service.__main__ import ROOMS, main


@pytest.mark.parametrize("room", ROOMS)
def test_each_module_adds_the_commands_that_are_stated(room: str) -> None:
    subparsers = argparse.ArgumentParser().add_subparsers()
    import_module(room).add_commands(subparsers)
    assert tuple(subparsers.choices) == ROOMS[room]


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["sevre"])
    assert error.value.code == 2
    assert "red-team" in capsys.readouterr().err
