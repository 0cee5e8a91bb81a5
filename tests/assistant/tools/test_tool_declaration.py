"""An annotated function is its own schema; errors name the argument; the trained format reaches any tool."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from assistant.tools.tool_declaration import ToolLimits, declare_tool, get_declaration, read_argument, tool
from assistant.tools.tool_registry import ToolRegistry, check_tool_names, describe_builtins
from assistant.tools.toolbox import TOOLS, Tools
from model.tokenizer.chat import DEFAULT_PARAMETER, PARAMETERS


def look_up_order(
    number: Annotated[int, Field(ge=1, description="the order's number")], unit: Literal["eur", "usd"] = "eur"
) -> dict[str, Any]:
    """Return the state of an order.

    Reads the shop's database.
    """
    return {"number": number, "unit": unit}


ORDERS = declare_tool(look_up_order, effects=("reads",))


def test_docstring_and_annotations_are_the_schema() -> None:
    assert (ORDERS.name, ORDERS.description) == ("look_up_order", "Return the state of an order.")
    assert ORDERS.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["number"],
        "properties": {
            "number": {"type": "integer", "minimum": 1, "title": "Number", "description": "the order's number"},
            "unit": {"type": "string", "enum": ["eur", "usd"], "default": "eur", "title": "Unit"},
        },
    }
    assert json.loads(ORDERS.call({"number": 7}, 1.0)) == {"number": 7, "unit": "eur"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"look_up_order\.number: Field required; found nothing; the arguments are number, unit\."),
        ({"number": "7"}, r"look_up_order\.number: Input should be a valid integer; found '7'"),
        ({"number": 0}, r"look_up_order\.number: .*greater than or equal to 1; found 0"),
        ({"number": True}, r"look_up_order\.number: .*; found True"),
        ({"number": 1, "unit": "x" * 500}, r"look_up_order\.unit: .*; found 'x{79};"),
        ({"number": 1, "admin": True}, r"look_up_order\.admin: Extra inputs are not permitted"),
        ({"number": {1, 2}}, r"look_up_order: the arguments are no JSON; found TypeError"),
    ],
)
def test_errors_name_the_argument(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ORDERS.call(arguments, 1.0)


def test_one_string_reaches_every_tool() -> None:
    assert json.loads(ORDERS.call_with_text('{"number": 7, "unit": "usd"}')) == {"number": 7, "unit": "usd"}
    with pytest.raises(ValueError, match=r"look_up_order takes number, unit; found '7'; write a JSON object"):
        ORDERS.call_with_text("7")
    shout = declare_tool(str_upper)
    assert shout.call_with_text("hey") == "HEY"
    assert shout.call_with_text('{"a": 1}') == '{"A": 1}'  # it takes one string and nothing else


def str_upper(text: str) -> str:
    """Return a text in capitals."""
    return text.upper()


@given(st.text(max_size=200))
def test_any_string_is_read_or_refused_by_name(argument: str) -> None:
    try:
        assert isinstance(dict(read_argument(ORDERS, argument)), dict)
    except ValueError as error:
        assert str(error).startswith("look_up_order takes ")  # noqa: PT017


def no_annotation(text) -> str:  # type: ignore[no-untyped-def]
    """Return nothing."""
    return str(text)


def no_result(text: str):  # type: ignore[no-untyped-def]
    """Return nothing."""


def no_docstring(text: str) -> str:
    return text


def takes_any(*texts: str) -> str:
    """Return nothing."""
    return ""


def no_schema(text: Tools) -> str:
    """Return nothing."""
    return ""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_annotation, r"no_annotation\.text has no annotation"),
        (no_result, r"no_result has no annotated result"),
        (no_docstring, r"no_docstring\.__doc__ is missing"),
        (takes_any, r"takes_any\.texts is variadic positional"),
        (no_schema, r"no_schema: an annotation has no JSON schema"),
        (lambda text: text, r"tool\.name must be 1 to 64 of a-z"),
    ],
)
def test_what_is_no_declaration_is_refused(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare_tool(function)


@pytest.mark.parametrize(
    "settings", [{"effects": ("explodes",)}, {"limits": ToolLimits(0)}, {"limits": ToolLimits(1, 10**9)}]
)
def test_wrong_effects_and_limits_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^str_upper\.(effects|max_seconds|max_memory_mb) "):
        declare_tool(str_upper, **settings)


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    marked = tool(effects={"leaves"}, max_seconds=2)(str_upper)
    assert marked is str_upper
    assert marked("a") == "A"
    declaration = get_declaration(marked)
    assert declaration is not None
    assert (declaration.is_harmful, declaration.is_trusted, declaration.limits.max_seconds) == (True, False, 2)
    assert get_declaration(len) is None


class Order(BaseModel):
    number: int


def test_results_are_texts_or_json() -> None:
    def make_order() -> Order:
        """Return an order."""
        return Order(number=1)

    def make_object() -> str:
        """Return what is no text."""
        return object()  # type: ignore[return-value]

    assert declare_tool(make_order).call({}, 1.0) == '{"number":1}'
    with pytest.raises(ValueError, match=r"make_object: the result is neither text nor JSON; found object"):
        declare_tool(make_object).call({}, 1.0)


def test_the_trained_tools_are_described_by_the_argument_that_they_were_trained_with() -> None:
    declared = {each.name: list(each.parameters["properties"]) for each in describe_builtins()}
    assert declared == {name: [PARAMETERS.get(name, DEFAULT_PARAMETER)] for name in TOOLS}


def test_the_registry_answers_like_the_functions() -> None:
    tools = ToolRegistry(describe_builtins()).make_tools()
    for name, argument in [("calculator", "12 * 7"), ("spell_text", "upper {x}"), ("count_text", "nonsense")]:
        assert tools.run(name, argument) == Tools(TOOLS).run(name, argument)


def test_a_name_exists_once_and_unknown_ones_are_named() -> None:
    with pytest.raises(ValueError, match=r"tools\.calculate_date exists twice; found it in built in and in built in"):
        ToolRegistry([*describe_builtins(), *describe_builtins()])
    with pytest.raises(ValueError, match=r"profile\.tools\.1 is no tool; found 'rm'; there are calculator, x\."):
        check_tool_names(["x", "rm"], ["x", "calculator"], "profile.tools")
