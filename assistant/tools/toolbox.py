"""The tools that a model may call: each takes one string and returns one. An error is a result too, so none ends a conversation.

`search_docs` also gets the user's question, by which its results are reranked, and returns what it found as values too: sections
with their exact places, from which citations are verified, and notices for the user.

To add a tool, write a function `str → str` in a module of this folder and add one line to TOOLS; its docstring and annotations are
its schema (tool_registry.py). Its parameter is called "argument" unless model.tokenizer.chat.PARAMETERS names it. A model calls
only what it was trained to call: examples of calls come from the stage conversations (pipeline/skills/).

Covers: only registered functions run, each bounds its own time and memory; results are truncated to MAX_RESULT_CHARS.
Does not cover: isolation. Tools run in this process: register none that writes, executes code or accesses a network. Those are
declared (tool_declaration.py), run apart, and are allowed or refused call by call (service/tooling).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from assistant.knowledge.knowledge_base import Knowledge
from assistant.tools.arithmetic import calculate
from assistant.tools.dates import calculate_date
from assistant.tools.text_counts import count_text, spell_text
from assistant.tools.units import convert_units
from model.grounding.answers import parse_passages
from model.grounding.certain import LookedUp
from model.retrieval.search_results import Search, SearchResult
from model.retrieval.searcher import Searcher

__all__ = [  # with the types of results, which a service imports from here
    "MAX_RESULT_CHARS", "SEARCH_TOOL", "TOOLS", "AnswerAbortedError", "Documents", "LookedUp", "OwnDocuments",
    "Search", "SearchResult", "Tool", "ToolOutput", "Tools", "make_tools",
]  # fmt: skip

MAX_RESULT_CHARS = 8_000
SEARCH_TOOL = "search_docs"

Tool = Callable[[str], str]

TOOLS: dict[str, Tool] = {
    "calculate_date": calculate_date,
    "calculator": calculate,
    "convert_units": convert_units,
    "count_text": count_text,
    "spell_text": spell_text,
}


class Documents(Protocol):
    """What `search_docs` searches: an index, collections, or both."""

    def search(self, query: str, limit: int = 3, question: str = "") -> Search: ...

    def __len__(self) -> int: ...


@runtime_checkable
class OwnDocuments(Documents, Protocol):
    """Documents some of which are the user's own: what is about them is searched for, whatever the model was trained on."""

    def covers(self, question: str) -> bool: ...

    def list_answering(self, question: str, search: Search) -> tuple[str, ...]: ...


class AnswerAbortedError(Exception):
    """What a tool raises if the answer can't go on without it: a part of the service that is down is no result."""


@dataclass(frozen=True)
class ToolOutput:
    """The text that the model reads, and for a search what it found. `decided_by`: the rules that allowed or refused the call."""

    text: str
    search: Search | None = None
    decided_by: tuple[str, ...] = ()


class Tools:
    """Named tools, as in `Tools({"calculator": calculate}, documents)`."""

    def __init__(self, functions: Mapping[str, Tool], documents: Documents | None = None) -> None:
        self._functions, self.documents = dict(functions), documents

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted([*self._functions, *([SEARCH_TOOL] if self.documents is not None else [])]))

    def add(self, functions: Mapping[str, Tool]) -> Tools:
        """Return these tools and others."""
        return Tools({**self._functions, **functions}, self.documents)

    def keep(self, names: Collection[str]) -> Tools:
        """Return the tools that have one of these names."""
        functions = {name: function for name, function in self._functions.items() if name in names}
        return Tools(functions, self.documents if SEARCH_TOOL in names else None)

    def search(self, query: str, limit: int = 3) -> Search:
        """Search the documents; without any, nothing is found."""
        return self.documents.search(query, limit) if self.documents is not None else Search(query, ())

    def end_answer(self, answer: str) -> None:
        """Learn what was answered with these tools; nothing here depends on it."""

    def look_up(self, query: str) -> LookedUp:
        """Return how the documents know the name in a query, and the title that they show for it."""
        if self.documents is None:
            return LookedUp()
        try:
            results = self.documents.search(query, limit=1).results
        except AnswerAbortedError:
            raise
        except Exception:  # what is wrong with the documents is said when they are searched
            return LookedUp()
        shown = parse_passages(results[0].line) if results else []
        return LookedUp(results[0].how, *shown[0]) if shown else LookedUp()

    def covers(self, question: str) -> bool:
        """Return whether a question may be about the user's own documents."""
        return isinstance(self.documents, OwnDocuments) and self.documents.covers(question)

    def list_answering(self, question: str, search: Search) -> tuple[str, ...]:
        """Return the titles of the user's own documents that certainly answer."""
        return self.documents.list_answering(question, search) if isinstance(self.documents, OwnDocuments) else ()

    def run(self, name: str, argument: str, question: str = "") -> ToolOutput:
        """Return the tool's output; the text of an error begins with `error: `. Raises: AnswerAbortedError only."""
        try:
            if name == SEARCH_TOOL and self.documents is not None:
                search = self.documents.search(argument, question=question)
                return ToolOutput(search.text[:MAX_RESULT_CHARS], search)
            if name in self._functions:
                return ToolOutput(self._functions[name](argument)[:MAX_RESULT_CHARS])
        except AnswerAbortedError:
            raise
        except Exception as error:  # whatever else a tool does wrong, the conversation continues
            return ToolOutput(f"error: {name} failed ({type(error).__name__}: {error})"[:MAX_RESULT_CHARS])
        return ToolOutput(f"error: there is no tool {name[:40]!r}; there are {', '.join(self.names) or 'none'}")


def make_tools(
    index: Path | None,
    embed: Path | None = None,
    collections: Sequence[str] = (),
    collections_folder: Path | None = None,
) -> Tools:
    """Return TOOLS and search_docs over an index folder, with the folder of the stage embed if there is one, and over collections
    of the user's own documents (assistant/knowledge) in a folder; without either there is no search_docs.

    Raises: ValueError for a folder that is missing, damaged, of an earlier version, or that does not belong to the other.
    """
    if collections:
        return Tools(TOOLS, Knowledge.open(index, embed, collections, collections_folder))
    return Tools(TOOLS, None if index is None else Searcher.open(index, embed))
