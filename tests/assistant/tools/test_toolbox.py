"""Tools return a text, whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.tools.toolbox import MAX_RESULT_CHARS, TOOLS, ToolOutput, Tools, make_tools
from model.retrieval.search_results import Search, TraceStep
from tests.assistant.conftest import NORM, write_index


def test_tools_with_an_index_folder(tmp_path: Path) -> None:
    tools = make_tools(write_index(tmp_path))
    assert tools.names == tuple(sorted([*TOOLS, "search_docs"]))
    assert tools.run("calculator", "12 * 7") == ToolOutput("84")
    output = tools.run("search_docs", "numpy.linalg.norm")
    assert output.text == NORM
    assert output.search is not None
    assert [result.section.title for result in output.search.results] == ["numpy.linalg.norm"]
    assert tools.run("search_docs", "xyzzy.x").text == "No passage found."


def test_the_question_reaches_the_search() -> None:
    class Echo:
        def search(self, query: str, limit: int = 3, question: str = "") -> Search:
            return Search(query, (), (TraceStep(question, 0.0),))

        def __len__(self) -> int:
            return 0

    found = Tools({}, Echo()).run("search_docs", "norm", "What is norm?").search
    assert found is not None
    assert found.trace[0].name == "What is norm?"


def test_without_an_index_there_is_no_search() -> None:
    tools = make_tools(None)
    assert tools.names == ("calculate_date", "calculator", "convert_units", "count_text", "spell_text")
    listed = "calculate_date, calculator, convert_units, count_text, spell_text"
    assert tools.run("search_docs", "norm").text == f"error: there is no tool 'search_docs'; there are {listed}"


def test_a_folder_that_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"segment\.json is not a readable file of a search index; found: .*make run"):
        make_tools(tmp_path)


def test_an_unknown_tool_an_exception_and_a_long_result_are_texts() -> None:
    def fail(argument: str) -> str:
        raise KeyError(argument)

    tools = Tools({"fail": fail, "talk": lambda argument: argument * 10**6})
    assert tools.run("rm", "-rf").text.startswith("error: there is no tool 'rm'")
    assert tools.run("fail", "x").text == "error: fail failed (KeyError: 'x')"
    assert len(tools.run("talk", "x").text) == MAX_RESULT_CHARS


def test_one_line_in_the_table_adds_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOLS, "shout", str.upper)
    assert make_tools(None).run("shout", "hey").text == "HEY"
    assert "shout" in make_tools(None).names
