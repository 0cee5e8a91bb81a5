"""The settings of a service's tools: one YAML file (docs/tools.md), for everybody and in addition for single tenants.

    code: auto                                   # auto, cpython, monty, off
    databases: {shop: {path: data/shop.sqlite, tables: [orders]}}
    fetch: {allow: [docs.python.org, "*.example.org/handbook/"]}
    files: tools                                 # a folder of Python files with @tool
    mcp: {tickets: {command: [tickets-mcp, --read-only]}}
    tenants: {acme: {databases: {…}, mcp: {…}}}

Secrets are no settings: `environment` of an MCP server names variables of this process. Paths are relative to the file's folder.
Raises: ValueError that names what is wrong, by its dotted name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from ruamel.yaml import YAML, YAMLError

from service.service_settings import ServiceSettings
from service.tooling.jail.code_tool import CodeSetting
from service.tooling.protocol.mcp_setting import McpSetting
from service.tooling.sources.fetch_page import FetchSetting
from service.tooling.sources.sql_tool import DatabaseSetting

MAX_BYTES = 256_000
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TenantTools(_Part):
    """Tools of one tenant, besides those for everybody."""

    databases: dict[Key, DatabaseSetting] = Field(default={}, max_length=50)
    fetch: FetchSetting | None = None
    mcp: dict[Key, McpSetting] = Field(default={}, max_length=50)


class ToolSettings(TenantTools):
    """The tools of a service. `code`: where code runs; `expose`: what /mcp offers besides what the model was trained to call;
    `trusted_collections` hold texts of the operator alone."""

    code: CodeSetting = "auto"
    files: Path | None = None
    expose: list[str] = Field(default=[], max_length=200)
    trusted_collections: list[str] = Field(default=[], max_length=1_000)
    max_calls: int = Field(default=8, ge=1, le=100)
    max_seconds: float = Field(default=60.0, gt=0, le=600)
    tenants: dict[str, TenantTools] = Field(default={}, max_length=10_000)


def choose_tools_file(settings: ServiceSettings) -> Path | None:
    """Return the file of tool settings: the one that is named, or tools.yaml in the state folder, or None."""
    default = settings.state / "tools.yaml"
    return settings.tool_settings or (default if default.is_file() else None)


def load_tool_settings(path: Path | None) -> ToolSettings:
    """Return the settings of a file, the default ones without a file."""
    if path is None:
        return ToolSettings()
    content = _read_yaml(path)
    try:
        return _resolve_paths(ToolSettings.model_validate(content), path.parent)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(["tools", *map(str, problem["loc"])])
        if problem["type"] == "extra_forbidden":
            raise ValueError(f"{where}: there is no such setting; found it in {path.name}; remove it.") from error
        found = repr(problem.get("input"))[:80]
        raise ValueError(f"{where}: {problem['msg']}; found {found}; correct {path.name}.") from error


def _read_yaml(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"--tool-settings: {path} can't be read; found {error.strerror}; name a YAML file.") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"--tool-settings: {path} is too large; found more than {MAX_BYTES:,} bytes; shorten it.")
    try:
        return YAML(typ="safe", pure=True).load(data.decode("utf-8")) or {}
    except (UnicodeDecodeError, YAMLError) as error:
        message = " ".join(str(error).split())[:200]
        raise ValueError(f"--tool-settings: {path} is not YAML in UTF-8; found {message}; correct it.") from error


def _resolve_paths(settings: ToolSettings, folder: Path) -> ToolSettings:
    def resolve(databases: dict[str, DatabaseSetting]) -> dict[str, DatabaseSetting]:
        return {name: each.model_copy(update={"path": folder / each.path}) for name, each in databases.items()}

    tenants = {
        name: each.model_copy(update={"databases": resolve(each.databases)}) for name, each in settings.tenants.items()
    }
    files = folder / settings.files if settings.files is not None else None
    return settings.model_copy(update={"databases": resolve(settings.databases), "files": files, "tenants": tenants})
