"""The one registry of tools: what there is, by name, whatever it comes from.

In: declarations (built in, from files, of a service). Out: `ToolRegistry`, which knows each tool's schema, effects and limits, and
makes the `Tools` of a conversation from them. A name exists once; the tools that the model was trained to call keep theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from assistant.tools.tool_declaration import MAX_SHOWN, ToolDeclaration, ToolLimits, declare_tool
from assistant.tools.toolbox import SEARCH_TOOL, TOOLS, Documents, Tools

# What a profile of a service may name besides: tools that service/tooling makes, and those of files and MCP servers.
SERVICE_TOOLS = ("fetch_page", "run_code", "run_sql")


class ToolRegistry:
    """Declared tools by name. Raises: ValueError for a name that exists twice."""

    def __init__(self, declarations: Iterable[ToolDeclaration]) -> None:
        self._declarations: dict[str, ToolDeclaration] = {}
        for declaration in declarations:
            if (known := self._declarations.get(declaration.name)) is not None:
                raise ValueError(
                    f"tools.{declaration.name} exists twice; found it in {known.origin} and in {declaration.origin}; "
                    "rename one."
                )
            self._declarations[declaration.name] = declaration

    def __iter__(self) -> Iterator[ToolDeclaration]:
        return iter(self._declarations.values())

    def __len__(self) -> int:
        return len(self._declarations)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._declarations))

    def get(self, name: str) -> ToolDeclaration | None:
        """Return the declaration of a tool; None if there is none of this name."""
        return self._declarations.get(name)

    def make_tools(self, documents: Documents | None = None) -> Tools:
        """Return the tools of a conversation, each by its one string."""
        return Tools({each.name: each.call_with_text for each in self if each.name != SEARCH_TOOL}, documents)


def describe_builtins() -> list[ToolDeclaration]:
    """Return the declarations of the tools that the model was trained to call, but for search_docs: that needs documents.

    Each bounds its own time and memory (milliseconds; the first conversion of units half a second).
    """
    return [
        declare_tool(function, name=name, limits=ToolLimits(max_seconds=2.0, max_memory_mb=64))
        for name, function in TOOLS.items()
    ]


def declare_search(documents: Documents, *, is_trusted: bool = False) -> ToolDeclaration:
    """Return the declaration of search_docs over these documents."""

    def search_docs(query: str) -> str:
        """Search the documents. Returns passages, each as [title] text, that an answer may quote."""
        return documents.search(query).text

    return declare_tool(
        search_docs, effects=("reads",), limits=ToolLimits(max_seconds=10.0), is_trusted=is_trusted, origin="documents"
    )


def check_tool_names(names: Collection[str], known: Collection[str], where: str = "tools") -> None:
    """Raises: ValueError that names the entry of `names` that is no known tool."""
    for number, name in enumerate(names):
        if name not in known:
            raise ValueError(
                f"{where}.{number} is no tool; found {name[:MAX_SHOWN]!r}; there are {', '.join(sorted(known))}."
            )
