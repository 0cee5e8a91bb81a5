"""The tool `run_sql`: read-only SQL over the SQLite files that the operator names, each in a process of its own.

    databases:
      shop: {path: data/shop.sqlite, tables: [orders, products], max_rows: 100, max_seconds: 5}

In: settings. Out: `SqlTool`, its declaration and its processes. Rows are untrusted text, unless the operator says otherwise
(`is_trusted: true`).
Raises: ValueError with the dotted name of a setting that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from assistant.tools.tool_declaration import ToolDeclaration, ToolLimits, declare_tool
from assistant.tools.tool_process import ToolProcess

READER = Path(__file__).with_name("sql_reader.py")
MAX_QUERY_CHARS = 10_000
MAX_SCHEMA_CHARS = 2_000  # of a description
MEMORY_MB = 256
GRACE_SECONDS = 1.0  # the reader stops itself before it is killed


class DatabaseSetting(BaseModel):
    """A SQLite file that may be read. `tables`: those that may be (none: all)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    tables: list[str] = Field(default=[], max_length=1_000)
    max_rows: int = Field(default=100, ge=1, le=10_000)
    max_seconds: float = Field(default=5.0, gt=0, le=60)
    is_trusted: bool = False


class SqlTool:
    """The tool over named databases; the first is the default one."""

    def __init__(self, databases: Mapping[str, DatabaseSetting]) -> None:
        self._databases = dict(databases)
        self._processes = {name: ToolProcess(READER) for name in databases}
        try:
            self.schemas = {name: self._describe(name, setting) for name, setting in databases.items()}
        except ValueError:
            self.close()
            raise
        self.declaration = self._declare()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.close()

    def _describe(self, name: str, setting: DatabaseSetting) -> str:
        where = f"tools.databases.{name}"
        if not setting.path.is_file():
            raise ValueError(f"{where}.path: {setting.path} is no file; found nothing there; name a SQLite file.")
        arguments = {"path": str(setting.path), "tables": setting.tables}
        try:
            return self._processes[name].call("describe_database", arguments, 30.0, MEMORY_MB)
        except ValueError as error:
            raise ValueError(f"{where}: {error}.") from error

    def _declare(self) -> ToolDeclaration:
        names = tuple(self._databases)

        def run_sql(query: str, database: str = names[0]) -> str:
            return ""

        run_sql.__doc__ = "Read a database with one SQL SELECT (SQLite). " + " ".join(
            f"Tables of {name}: {', '.join(schema.splitlines())[:MAX_SCHEMA_CHARS]}."
            for name, schema in self.schemas.items()
        )
        about = Field(max_length=MAX_QUERY_CHARS, description="one SELECT statement")
        run_sql.__annotations__ = {"query": Annotated[str, about], "database": Literal[names], "return": str}
        limits = ToolLimits(max(each.max_seconds for each in self._databases.values()) + GRACE_SECONDS, MEMORY_MB)
        is_trusted = all(each.is_trusted for each in self._databases.values())
        declared = declare_tool(
            run_sql, effects=("reads",), limits=limits, is_trusted=is_trusted, origin="the setting databases"
        )
        return replace(declared, call=lambda values, seconds: self._run(declared, values, seconds))

    def _run(self, declared: ToolDeclaration, values: Mapping[str, Any], max_seconds: float) -> str:
        declared.call(values, max_seconds)  # checks the arguments
        name = values.get("database", next(iter(self._databases)))
        setting = self._databases[name]
        seconds = min(setting.max_seconds, max_seconds)
        arguments = {
            "path": str(setting.path),
            "query": values["query"],
            "tables": setting.tables,
            "max_rows": setting.max_rows,
            "max_seconds": seconds,
        }
        try:
            return self._processes[name].call("read_database", arguments, seconds + GRACE_SECONDS, MEMORY_MB)
        except ValueError as error:
            raise ValueError(str(error).replace("read_database", declared.name)) from error
