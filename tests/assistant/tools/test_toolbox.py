"""Tools return a text, whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.tools.toolbox import MAX_RESULT_CHARS, TOOLS, Tools, make_tools
from tests.assistant.conftest import NORM, write_passages


def test_tools_with_an_index_folder(tmp_path: Path) -> None:
    tools = make_tools(tmp_path)
    assert tools.names == tuple(sorted([*TOOLS, "search_docs"]))
    assert tools.run("calculator", "12 * 7") == "84"
    assert tools.run("search_docs", "norm") == "No passage found."
    write_passages(tmp_path / "passages.sqlite")
    assert NORM in tools.run("search_docs", "numpy.linalg.norm")


def test_without_an_index_there_is_no_search() -> None:
    tools = make_tools(None)
    assert tools.names == ("calculate_date", "calculator", "convert_units")
    listed = "calculate_date, calculator, convert_units"
    assert tools.run("search_docs", "norm") == f"error: there is no tool 'search_docs'; there are {listed}"


def test_an_unknown_tool_an_exception_and_a_long_result_are_texts() -> None:
    def fail(argument: str) -> str:
        raise KeyError(argument)

    tools = Tools({"fail": fail, "talk": lambda argument: argument * 10**6})
    assert tools.run("rm", "-rf").startswith("error: there is no tool 'rm'")
    assert tools.run("fail", "x") == "error: fail failed (KeyError: 'x')"
    assert len(tools.run("talk", "x")) == MAX_RESULT_CHARS


def test_one_line_in_the_table_adds_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOLS, "shout", str.upper)
    assert make_tools(None).run("shout", "hey") == "HEY"
    assert "shout" in make_tools(None).names
