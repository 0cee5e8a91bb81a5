"""Read offered tools and response formats into the constraint of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from service.answers.answer_request import OfferedTool, OutputConstraint
from service.api.wire.chat_wire import (
    AllowedToolsChoice,
    FunctionToolWire,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedToolChoice,
    RegexFormat,
    ResponseFormat,
    ToolChoice,
)
from service.api.wire.refuse_field import refuse


def read_constraint(
    tools: Sequence[FunctionToolWire],
    choice: ToolChoice | None,
    format: ResponseFormat | None,
    is_parallel: bool | None,
) -> OutputConstraint | None:
    """Return what the answer must match. Raises: ServiceError 400 for tools that are not offered, or both tools and a format."""
    calls = _read_tools(tools, choice, is_parallel)
    if format is None or format.type == "text":
        return calls
    if calls is not None:
        raise refuse(
            "response_format", "can't be honored beside tools", format.type, "send tool_choice: none, or no tools"
        )
    if isinstance(format, JsonSchemaFormat):
        return OutputConstraint("json_schema", schema=format.json_schema.json_schema)
    if isinstance(format, RegexFormat):
        return OutputConstraint("regex", regex=format.regex)
    assert isinstance(format, JsonObjectFormat)
    return OutputConstraint("json_object")


def _read_tools(
    tools: Sequence[FunctionToolWire], choice: ToolChoice | None, is_parallel: bool | None
) -> OutputConstraint | None:
    offered = [
        OfferedTool(
            tool.function.name,
            tool.function.description or "",
            tool.function.parameters or {},
            bool(tool.function.strict),
        )
        for tool in tools
    ]
    names = [tool.name for tool in offered]
    if len(set(names)) < len(names):
        raise refuse("tools", "has two functions of one name", len(names), "name each differently")
    if choice in (None, "none") or not offered:
        if choice not in (None, "none", "auto"):
            raise refuse("tool_choice", "needs tools", choice if isinstance(choice, str) else choice.type, "send tools")
        return None if choice == "none" or not offered else _call_tools(offered, names, False, is_parallel)
    if isinstance(choice, NamedToolChoice):
        return _call_tools(offered, [choice.function.name], True, is_parallel)
    if isinstance(choice, AllowedToolsChoice):
        allowed = [tool.function.name for tool in choice.allowed_tools.tools]
        return _call_tools(offered, allowed, choice.allowed_tools.mode == "required", is_parallel)
    return _call_tools(offered, names, choice == "required", is_parallel)


def _call_tools(
    offered: Sequence[OfferedTool], names: Sequence[str], must_call: bool, is_parallel: bool | None
) -> OutputConstraint:
    for name in names:
        if name not in [tool.name for tool in offered]:
            raise refuse(
                "tool_choice", "names a function that tools does not offer", name, "offer it, or choose another"
            )
    chosen = tuple(tool for tool in offered if tool.name in names)
    return OutputConstraint("tools", tools=chosen, must_call=must_call, allows_parallel=is_parallel is not False)
