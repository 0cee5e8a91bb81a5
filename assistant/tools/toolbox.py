"""The tools a model may call: a name and one text in, one text out. Every failure is a text too, so no tool ends a conversation.

Covers: only functions registered here run, each bounded in time and size by itself; results are cut to a length.
Does not cover: isolation. Tools run in this process: register nothing that writes, executes or goes out to a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from assistant.knowledge.lexical import Passages
from assistant.tools.arithmetic import calculate

MAX_RESULT_CHARS = 8_000

Tool = Callable[[str], str]


class Tools:
    """`Tools({"calculator": calculate})`. Another tool is one more name with its function, and examples to learn its use from."""

    def __init__(self, functions: Mapping[str, Tool]) -> None:
        self._functions = dict(functions)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._functions))

    def run(self, name: str, argument: str) -> str:
        """Never raises."""
        function = self._functions.get(name)
        if function is None:
            return f"error: there is no tool {name[:40]!r}; there are {', '.join(self.names) or 'none'}"
        try:
            return function(argument)[:MAX_RESULT_CHARS]
        except Exception as error:  # whatever a tool does wrong, the conversation goes on
            return f"error: {name} failed ({type(error).__name__}: {error})"[:MAX_RESULT_CHARS]


def make_tools(index: Path | None) -> Tools:
    """Return the calculator and, over an index folder, search_docs."""
    tools: dict[str, Tool] = {"calculator": calculate}
    if index is not None:
        tools["search_docs"] = Passages(index / "passages.sqlite").search_docs
    return Tools(tools)
