"""Declare tools: an annotated function is its own schema, and says what it does to the world.

    @tool(effects={"reads"}, max_seconds=2)
    def look_up_order(number: Annotated[int, Field(ge=1)]) -> str:
        \"\"\"Return the state of an order.\"\"\"

In: a function whose parameters and result are annotated, with a docstring. Out: a `ToolDeclaration`: name, description, JSON schema
of the arguments, effects and limits, and `call`, which checks arguments against the schema and returns a text. They are checked as
JSON (a string is no number); an error names the argument and repeats at most 80 characters of it.

Covers: schemas, arguments, results that are texts or JSON. Does not cover: enforcing effects and limits. Whoever runs a tool does:
assistant/tools/tool_worker.py for files of tools, service/tooling for everything that a service offers.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

Effect = Literal["reads", "writes", "runs", "leaves"]
# reads: data that not everybody may see; writes: changes something; runs: executes code of others; leaves: uses a network
EFFECTS: tuple[Effect, ...] = get_args(Effect)
HARMFUL: frozenset[Effect] = frozenset({"writes", "runs", "leaves"})  # not once untrusted text is in the window

MAX_SECONDS = 300.0
MAX_MEMORY_MB = 8_192
MAX_SHOWN = 80  # characters of an argument that an error repeats
MAX_ARGUMENT_CHARS = 100_000
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_DECLARED = "__minigpt_tool__"

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class ToolLimits:
    """The bounds of one call: seconds, and memory beyond what the process has before it."""

    max_seconds: float = 5.0
    max_memory_mb: int = 256


@dataclass(frozen=True)
class ToolDeclaration:
    """A tool. `call` checks arguments and returns the text, within the seconds that it is given. `is_trusted`: whether its results
    are texts that we or the operator wrote, and not anybody's. `origin`: built in, a file, an MCP server."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    call: Callable[[Mapping[str, Any], float], str] = field(compare=False)
    effects: frozenset[Effect] = frozenset()
    limits: ToolLimits = ToolLimits()
    is_trusted: bool = True
    origin: str = "built in"

    @property
    def is_harmful(self) -> bool:
        """Return whether it writes, runs code or leaves this machine."""
        return bool(self.effects & HARMFUL)

    def call_with_text(self, argument: str, max_seconds: float = MAX_SECONDS) -> str:
        """Call with the one string of the trained format: the value of the only string parameter, or a JSON object of arguments.

        Raises: ValueError for arguments that the schema does not allow; what the tool itself raises.
        """
        return self.call(read_argument(self, argument), min(max_seconds, self.limits.max_seconds))

    def to_json(self) -> dict[str, Any]:
        """Return everything but the function."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
            "effects": sorted(self.effects),
            "max_seconds": self.limits.max_seconds,
            "max_memory_mb": self.limits.max_memory_mb,
            "is_trusted": self.is_trusted,
        }


def tool(
    *,
    name: str = "",
    effects: Collection[Effect] = (),
    max_seconds: float = ToolLimits.max_seconds,
    max_memory_mb: int = ToolLimits.max_memory_mb,
    is_trusted: bool | None = None,
) -> Callable[[AnyFunction], AnyFunction]:
    """Mark a function as a tool. It stays the function that it is.

    By default the results of a tool that leaves this machine are untrusted, and those of others are trusted.
    """

    def mark(function: AnyFunction) -> AnyFunction:
        declaration = declare_tool(
            function,
            name=name,
            effects=effects,
            limits=ToolLimits(max_seconds, max_memory_mb),
            is_trusted=is_trusted,
        )
        setattr(function, _DECLARED, declaration)
        return function

    return mark


def get_declaration(function: Any) -> ToolDeclaration | None:
    """Return how a function is declared; None if it is no tool."""
    declaration = getattr(function, _DECLARED, None)
    return declaration if isinstance(declaration, ToolDeclaration) else None


def declare_tool(
    function: Callable[..., Any],
    *,
    name: str = "",
    effects: Collection[Effect] = (),
    limits: ToolLimits | None = None,
    is_trusted: bool | None = None,
    origin: str = "built in",
) -> ToolDeclaration:
    """Return the declaration of an annotated function. The first paragraph of its docstring is the description.

    Raises: ValueError for a name, an annotation, an effect or a limit that is missing or wrong, by its dotted name.
    """
    name = name or getattr(function, "__name__", "")
    check_tool_name(name, "tool.name")
    limits = limits or ToolLimits()
    _check_limits(name, effects, limits)
    description = " ".join(inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0].split())
    if not description:
        raise ValueError(f"{name}.__doc__ is missing; found no docstring; say in one what the tool does.")
    arguments = _make_arguments(function, name)

    def call(values: Mapping[str, Any], _max_seconds: float) -> str:  # a plain function bounds its own time
        checked = _check_arguments(name, arguments, values)
        return _format_result(name, function(**{key: getattr(checked, key) for key in arguments.model_fields}))

    schema = arguments.model_json_schema()
    schema.pop("title", None)
    return ToolDeclaration(
        name,
        description,
        schema,
        call,
        frozenset(effects),
        limits,
        "leaves" not in effects if is_trusted is None else is_trusted,
        origin,
    )


def check_tool_name(name: str, where: str) -> None:
    """Raises: ValueError for what can't be a tool's name."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{where} must be 1 to 64 of a-z, 0-9 and _, a letter first; found {name[:MAX_SHOWN]!r}; rename it."
        )


def read_argument(declaration: ToolDeclaration, argument: str) -> Mapping[str, Any]:
    """Return the arguments that one string stands for: the one that is required, if it is a text, or a JSON object.

    Raises: ValueError for what is no JSON object where the tool takes more than one string.
    """
    if len(argument) > MAX_ARGUMENT_CHARS:
        raise ValueError(
            f"{declaration.name}: the argument is too long; found {len(argument):,} characters; "
            f"give at most {MAX_ARGUMENT_CHARS:,}."
        )
    properties: Mapping[str, Any] = declaration.parameters.get("properties", {})
    required = declaration.parameters.get("required", [])
    named = required if len(required) == 1 else list(properties) if len(properties) == 1 else []
    is_text = len(named) == 1 and properties.get(named[0], {}).get("type") == "string"
    if is_text and (len(properties) == 1 or not argument.lstrip().startswith("{")):
        return {named[0]: argument}
    if not properties and not argument.strip():
        return {}
    try:
        values = json.loads(argument)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(
            f"{declaration.name} takes {', '.join(properties) or 'no arguments'}; found {argument[:MAX_SHOWN]!r}; "
            "write a JSON object of them."
        )
    return values


def _check_limits(name: str, effects: Collection[Effect], limits: ToolLimits) -> None:
    if unknown := sorted(set(effects) - set(EFFECTS)):
        raise ValueError(f"{name}.effects is unknown; found {unknown[0]!r}; use {', '.join(EFFECTS)}.")
    for key, value, most in (
        ("max_seconds", limits.max_seconds, MAX_SECONDS),
        ("max_memory_mb", limits.max_memory_mb, MAX_MEMORY_MB),
    ):
        if not 0 < value <= most:
            raise ValueError(f"{name}.{key} must be above 0 and at most {most:g}; found {value}; set it.")


def _make_arguments(function: Callable[..., Any], name: str) -> type[BaseModel]:
    """Return the model of a function's arguments."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ValueError(f"{name}: an annotation is unknown; found {error.name!r}; import it in the file.") from error
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ValueError(f"{name}.{key} is {parameter.kind.description}; use parameters that have a name.")
        if key not in hints:
            raise ValueError(f"{name}.{key} has no annotation; found {key}; annotate it, as in {key}: str.")
        fields[key] = (hints[key], ... if parameter.default is parameter.empty else parameter.default)
    if "return" not in hints:
        raise ValueError(f"{name} has no annotated result; found no ->; annotate it, as in -> str.")
    try:
        return create_model(
            name, __config__=ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=False), **fields
        )
    except Exception as error:  # pydantic raises several kinds for annotations that have no schema
        first = " ".join(str(error).split())[:200]
        raise ValueError(f"{name}: an annotation has no JSON schema; found {first}; use plain types.") from error


def _check_arguments(name: str, arguments: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    try:
        return arguments.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = ".".join([name, *map(str, problem["loc"])])
        found = "nothing" if problem["type"] == "missing" else repr(problem["input"])[:MAX_SHOWN]
        known = ", ".join(arguments.model_fields) or "none"
        raise ValueError(f"{where}: {problem['msg'][:200]}; found {found}; the arguments are {known}.") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{name}: the arguments are no JSON; found {type(error).__name__}; give JSON values."
        ) from error


def _format_result(name: str, result: Any) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, BaseModel):
        return result.model_dump_json()
    try:
        return json.dumps(result, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: the result is neither text nor JSON; found {type(result).__name__}; return one of them."
        ) from error
