"""The tools that a model may call: each takes one string and returns one. An error is a result too, so none ends a conversation.

To add a tool, write a function `str → str` in a module of this folder and add one line to TOOLS. Its parameter is called
"argument" unless model.tokenizer.chat.PARAMETERS names it. A model calls only what it was trained to call: examples of calls come
from the stage conversations (pipeline/skills/).

Covers: only registered functions run, each bounds its own time and memory; results are truncated to MAX_RESULT_CHARS.
Does not cover: isolation. Tools run in this process: register none that writes, executes code or accesses a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from assistant.knowledge.lexical import Passages
from assistant.tools.arithmetic import calculate
from assistant.tools.dates import calculate_date
from assistant.tools.units import convert_units

MAX_RESULT_CHARS = 8_000

Tool = Callable[[str], str]

TOOLS: dict[str, Tool] = {
    "calculate_date": calculate_date,
    "calculator": calculate,
    "convert_units": convert_units,
}


class Tools:
    """Named tools, as in `Tools({"calculator": calculate})`."""

    def __init__(self, functions: Mapping[str, Tool]) -> None:
        self._functions = dict(functions)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._functions))

    def run(self, name: str, argument: str) -> str:
        """Return the tool's result, or a text that begins with `error: `. Never raises."""
        function = self._functions.get(name)
        if function is None:
            return f"error: there is no tool {name[:40]!r}; there are {', '.join(self.names) or 'none'}"
        try:
            return function(argument)[:MAX_RESULT_CHARS]
        except Exception as error:  # whatever a tool does wrong, the conversation continues
            return f"error: {name} failed ({type(error).__name__}: {error})"[:MAX_RESULT_CHARS]


def make_tools(index: Path | None) -> Tools:
    """Return TOOLS and, if there is an index folder, search_docs over it.

    Raises: ValueError for an index that an earlier version wrote.
    """
    tools = dict(TOOLS)
    if index is not None:
        passages = Passages(index / "passages.sqlite")
        passages.check_schema()
        tools["search_docs"] = passages.search_docs
    return Tools(tools)
