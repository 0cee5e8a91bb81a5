"""The tool `run_code`: Python of anybody in the best jail that this machine has, which every result names.

In: a setting (auto, cpython, monty, off). Out: `CodeTool` with the tool's declaration, or with the reason why there is none. `auto`
takes CPython in its jail where the kernel has what that needs, and pydantic-monty elsewhere; what was taken and why is in `about`,
which `/ready` and `python -m service tools check` show. A jail that stops working later is an error of the call: nothing else is
tried then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from assistant.tools.tool_declaration import ToolDeclaration, ToolLimits, declare_tool
from service.tooling.jail.cpython_jail import MAX_CODE_BYTES, CodeRun, CpythonJail, JailError
from service.tooling.jail.monty_jail import MontyJail

CodeSetting = Literal["auto", "cpython", "monty", "off"]
ENDINGS = {
    "time": "error: stopped after {seconds:g} seconds",
    "memory": "error: it needs more than {memory} MB",
    "output": "error: it printed too much and was stopped",
    "killed": "error: it was killed, for its memory or a crash",
    "raised": "error: it raised an exception",
}


class Jail(Protocol):
    """What runs code. Raises: JailError if it can't confine it; then nothing has run."""

    engine: str

    def run(self, code: str, *, max_seconds: float = 5.0, memory_mb: int = 256) -> CodeRun: ...


@dataclass(frozen=True)
class CodeTool:
    """The tool, or None, and what people should know about it: which jail, or why there is none. `is_wanted`: it is not off."""

    declaration: ToolDeclaration | None
    about: str
    is_wanted: bool = True


def open_code_tool(setting: CodeSetting = "auto", limits: ToolLimits | None = None) -> CodeTool:
    """Return the tool that a setting asks for."""
    if setting == "off":
        return CodeTool(None, "off, by the setting code", is_wanted=False)
    reasons: list[str] = []
    jails = {"cpython": CpythonJail, "monty": MontyJail}
    for name in jails if setting == "auto" else [setting]:
        try:
            jail = jails[name]()
        except (JailError, ImportError) as error:
            reasons.append(f"{name}: {error}")
            continue
        because = f"; {'; '.join(reasons)}" if reasons else ""
        return CodeTool(declare_code_tool(jail, limits or ToolLimits()), f"{jail.engine}{because}")
    return CodeTool(None, f"there is no jail here; {'; '.join(reasons)}")


def declare_code_tool(jail: Jail, limits: ToolLimits) -> ToolDeclaration:
    """Return the declaration of run_code in a jail."""

    def run_code(
        code: Annotated[str, Field(max_length=MAX_CODE_BYTES, description="Python, standard library only")],
    ) -> str:
        """Run Python code in a jail. Returns what it prints and the value of its last expression."""
        return ""

    declaration = declare_tool(run_code, effects=("runs",), limits=limits, is_trusted=True, origin=jail.engine)
    check = declaration.call

    def call(values: Mapping[str, Any], max_seconds: float) -> str:
        check(values, max_seconds)
        seconds = min(max_seconds, limits.max_seconds)
        run = jail.run(values["code"], max_seconds=seconds, memory_mb=limits.max_memory_mb)
        return format_run(run, seconds, limits.max_memory_mb)

    return replace(declaration, call=call)


def format_run(run: CodeRun, seconds: float, memory_mb: int) -> str:
    """Return what the model reads: how it ended if that was wrong, the output, and what ran it."""
    lines = [] if run.ending == "done" else [ENDINGS[run.ending].format(seconds=seconds, memory=memory_mb)]
    lines.append(run.output.rstrip("\n") or "(no output)")
    return "\n".join([*lines, f"— run by {run.engine}"])
