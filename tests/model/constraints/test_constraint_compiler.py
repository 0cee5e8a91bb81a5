"""Constrained decoding: what is complete is valid, whatever the model; what can't be enforced is refused by keyword and path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import thread_time
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.constraints.check_schema import ConstraintError, measure_regex
from model.constraints.constraint_compiler import ConstraintCompiler, StuckConstraintError
from model.constraints.constraint_spec import Kind
from model.constraints.offered_calls import (
    encode_offered_turn,
    format_offered_call,
    parse_offered_call,
    parse_offered_reply,
)
from model.tokenizer.chat import Message, ToolCall, encode_turn
from model.tokenizer.tokenizer import Tokenizer, train_bpe
from tests.model.constraints.made_schemas import make_schema

VOCAB_SIZE = 400  # of the logits: some padding rows above the tokenizer's own


@dataclass(frozen=True)
class Tool:
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Spec:
    kind: Kind
    schema: Mapping[str, Any] = field(default_factory=dict[str, Any])
    regex: str = ""
    tools: tuple[Tool, ...] = ()
    must_call: bool = False


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(['{"name": "value", "number": 12.5, "list": [true, false, null]} The answer is é 漢字.'] * 20, 380)


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> ConstraintCompiler:
    return ConstraintCompiler(tokenizer, VOCAB_SIZE)


def generate(
    compiler: ConstraintCompiler, tokenizer: Tokenizer, spec: Spec, seed: int, max_tokens: int = 300, end: float = 0.0
) -> tuple[list[int], bool]:
    """Return ids of a random model, and whether the answer is complete. `end`: what the model prefers <|end|> by."""
    constraint, generator, ids = compiler.compile(spec).start(), np.random.default_rng(seed), list[int]()
    end_id = tokenizer.get_special_id("end")
    while len(ids) < max_tokens and not constraint.is_complete:
        logits = generator.random(VOCAB_SIZE, dtype=np.float32)
        logits[end_id] += end
        constraint.mask(logits)
        index = int(logits.argmax())
        if index == end_id:
            return ids, True
        ids.append(index)
        constraint.accept(index)
    return ids, constraint.is_complete


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}, "tags": {"type": "array"}},
    "required": ["name", "age"],
}
TOOLS = (
    Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}),
    Tool(
        "calculator", {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}
    ),
    Tool("now"),
)


def test_complete_answers_are_valid_for_200_schemas(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    """Whatever a random model would rather say. Nearly all answers end by themselves, since strings and numbers are bounded."""
    n_complete = 0
    for seed in range(200):
        schema = make_schema(seed)
        ids, is_complete = generate(compiler, tokenizer, Spec("json_schema", schema), seed, 600, end=0.5)
        if is_complete:
            value = json.loads(tokenizer.decode(ids))
            validator = jsonschema_rs.validator_for(schema, validate_formats=True)
            assert validator.is_valid(value), (seed, schema, value)
            n_complete += 1
    assert n_complete >= 190


FORMATS = ("date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "email", "hostname", "uri")


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_valid_to_the_last_rule(compiler: ConstraintCompiler, tokenizer: Tokenizer, name: str) -> None:
    """Also what a grammar can't count: labels of 63 characters, leap seconds."""
    validator = jsonschema_rs.validator_for({"type": "string", "format": name}, validate_formats=True)
    for seed in range(12):
        spec = Spec("json_schema", {"type": "string", "format": name})
        ids, is_complete = generate(compiler, tokenizer, spec, seed, 600, end=0.5)
        assert is_complete
        assert validator.is_valid(json.loads(tokenizer.decode(ids)))


def test_any_object_ends(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    for seed in range(10):
        ids, is_complete = generate(compiler, tokenizer, Spec("json_object"), seed, 4_000, end=5.0)
        assert is_complete
        assert isinstance(json.loads(tokenizer.decode(ids)), dict)


@pytest.mark.parametrize(
    "expression", [r"\d{3}-[a-c]{2,4}(é|漢)?", r"a/b\\/\nstart: \"x\"", 'a\n"b"/', r"(yes|no){1,3}", r"\w+@\w+\.org"]
)
def test_an_expression_is_matched_as_a_whole(
    compiler: ConstraintCompiler, tokenizer: Tokenizer, expression: str
) -> None:
    for seed in range(10):
        ids, is_complete = generate(compiler, tokenizer, Spec("regex", regex=expression), seed, 2_000, end=0.9)
        assert is_complete
        assert re.fullmatch(expression, tokenizer.decode(ids), re.ASCII)


@pytest.mark.parametrize("must_call", [True, False])
def test_calls_are_of_offered_tools_and_valid(
    compiler: ConstraintCompiler, tokenizer: Tokenizer, must_call: bool
) -> None:
    names: set[str] = set()
    for seed in range(30):
        ids, is_complete = generate(
            compiler, tokenizer, Spec("tools", tools=TOOLS, must_call=must_call), seed, 2_000, end=0.5
        )
        assert is_complete
        call = parse_offered_reply(ids, tokenizer, "call_1")
        is_call = ids[:1] == [tokenizer.get_special_id("call")]
        assert is_call == (call is not None)
        assert is_call or not must_call
        if call is not None:
            names.add(call.name)
            [tool] = [tool for tool in TOOLS if tool.name == call.name]
            assert jsonschema_rs.is_valid(dict(tool.parameters) or {"maxProperties": 0}, dict(call.arguments))
    assert len(names) > 1 or not must_call


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)


@settings(max_examples=50)
@given(
    st.sampled_from(["get_weather", "calculator", "x-y_1"]), st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
)
def test_a_call_comes_back_from_its_text(name: str, arguments: dict[str, Any]) -> None:
    call = ToolCall("call_1", name, json.loads(json.dumps(arguments)))
    assert parse_offered_call(format_offered_call(call), "call_1") == call


def test_turns_of_offered_calls_extend_the_trained_template(tokenizer: Tokenizer) -> None:
    trained = Message.calling(ToolCall.of("calculator", "12 * 7"))
    assert encode_offered_turn(trained, tokenizer) == encode_turn(trained, tokenizer)
    other = Message.calling(ToolCall("", "get_weather", {"city": "Paris <|end|>", "days": 2}))
    role, call, *content, end = encode_offered_turn(other, tokenizer)
    assert [role, call, end] == [tokenizer.get_special_id(name) for name in ("assistant", "call", "end")]
    assert parse_offered_reply([call, *content], tokenizer) == other.call
    assert tokenizer.get_special_id("end") not in content


def test_control_tokens_and_padding_can_never_follow(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    end, call = tokenizer.get_special_id("end"), tokenizer.get_special_id("call")
    for spec in (Spec("json_schema", PERSON), Spec("regex", regex="(.|\\n)*"), Spec("tools", tools=TOOLS)):
        constraint = compiler.compile(spec).start()
        allowed = constraint.list_allowed()
        specials = set(np.flatnonzero(allowed[:16]))
        assert specials <= ({end, call} if spec.kind == "tools" else {end})
        assert not allowed[tokenizer.vocab_size :].any()
        assert allowed[end] == constraint.is_accepting


def test_what_is_cut_is_not_complete(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    ids, is_complete = generate(compiler, tokenizer, Spec("json_schema", PERSON), 1, max_tokens=8)
    assert len(ids) == 8
    assert not is_complete


def test_a_token_that_can_not_follow_is_an_error(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    constraint = compiler.compile(Spec("json_schema", PERSON)).start()
    with pytest.raises(StuckConstraintError):
        constraint.accept(tokenizer.encode("x")[0])


def test_answers_of_one_constraint_do_not_share_their_state(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    alone = [generate(compiler, tokenizer, Spec("json_schema", PERSON), seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda seed: generate(compiler, tokenizer, Spec("json_schema", PERSON), seed), range(4))
        )
    assert together == alone


def test_the_cache_is_bounded_and_changes_nothing(tokenizer: Tokenizer) -> None:
    compiler = ConstraintCompiler(tokenizer, VOCAB_SIZE, n_cached=2)
    specs = [Spec("json_schema", {"const": number}) for number in range(5)]
    texts = [tokenizer.decode(generate(compiler, tokenizer, spec, 0)[0]) for spec in (*specs, *specs)]
    assert texts == ["0", "1", "2", "3", "4"] * 2
    assert len(compiler) == 2


def make_nest(depth: int) -> dict[str, Any]:
    return {"type": "array", "items": make_nest(depth - 1)} if depth else {}


REFUSED = [  # schema, keyword, path of what is wrong
    ({"type": "array", "uniqueItems": True}, "uniqueItems", "schema"),
    ({"properties": {"a": {"anyOf": [{"not": {}}]}}}, "not", "schema.properties.a.anyOf[0]"),
    ({"properties": {"a": {"type": "string", "pattern": "(?=x)"}}}, "pattern", "schema.properties.a"),
    ({"properties": {"a": {"type": "string", "pattern": "(a{100}){100}"}}}, "pattern", "schema.properties.a.pattern"),
    ({"properties": {"a": {"type": "int"}}}, "type", "schema.properties.a"),
    ({"type": "integer", "minimum": 5, "maximum": 2}, "minimum", "schema"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf", "schema"),
    ({"$ref": "http://example.com/schema"}, "$ref", "schema"),
    ({"$ref": "#/$defs/none"}, "$ref", "schema"),
    ({"$ref": "#"}, "$ref", "schema"),
    ({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}, "$ref", "schema.properties.n"),
    ({"type": "string", "format": "color"}, "format", "schema"),
    ({"if": {}, "then": {}}, "if", "schema"),
    ({"requierd": ["a"]}, "requierd", "schema"),
    ({"x-guidance": {"lenient": True}}, "x-guidance", "schema"),
    ({"type": "string", "maxLength": 10**30}, "maxLength", "schema"),
    ({"type": "string", "minLength": -1}, "minLength", "schema"),
    ({"type": "object", "minProperties": 3}, "minProperties", "schema"),
    ({"anyOf": []}, "anyOf", "schema"),
    ({"properties": []}, "properties", "schema"),
    ({"properties": {"a": 3}}, "", "schema.properties.a"),
    ({"enum": []}, "enum", "schema"),
    (make_nest(40), "", "schema" + ".items" * 33),
]


@pytest.mark.parametrize(("schema", "keyword", "path"), REFUSED)
def test_what_can_not_be_enforced_is_refused_by_keyword_and_path(
    compiler: ConstraintCompiler, schema: dict[str, Any], keyword: str, path: str
) -> None:
    with pytest.raises(ConstraintError) as error:
        compiler.compile(Spec("json_schema", schema))
    assert (error.value.keyword, error.value.path) == (keyword, path)
    assert keyword in str(error.value)
    assert str(error.value).count(";") >= 2  # what is wrong, what was found, what to do
    if keyword not in ("", "$ref", "minimum", "enum"):  # a property that no value satisfies is one that is left out
        as_tool = Spec("tools", tools=(Tool("x", {"type": "object", "properties": {"q": schema}}),))
        with pytest.raises(ConstraintError, match=re.escape("tools[0].parameters.properties.q")):
            compiler.compile(as_tool)


DOUBLED = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
HOSTILE = [
    Spec("json_schema", {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(3_000)}}),
    Spec("json_schema", {"anyOf": [{"type": "object", "properties": {f"p{n}": {}}} for n in range(1_000)]}),
    Spec("json_schema", {"enum": ["x" * 1_000 + str(n) for n in range(200)]}),
    Spec("json_schema", {"type": "integer", "multipleOf": 982_451_653}),
    Spec(
        "json_schema",
        {"$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}, "$ref": "#/$defs/d0"},
    ),
    Spec("regex", regex="(x+x+)+y"),
    Spec("regex", regex="(.*a){50}"),
    Spec("regex", regex="(a|b)*a(a|b){200}"),
    Spec("regex", regex="a{4000}"),
    Spec("regex", regex="(a?){2000}(a?){2000}"),
    Spec("regex", regex="(" * 900 + "a" + ")" * 900),
    Spec("regex", regex=r"(\p{L}{1,50}){1,50}"),
]


@pytest.mark.parametrize("spec", HOSTILE, ids=lambda spec: (spec.regex or str(spec.schema))[:30])
def test_hostile_constraints_are_refused_or_cheap(
    compiler: ConstraintCompiler, tokenizer: Tokenizer, spec: Spec
) -> None:
    """Processor time, since a step of one request is waited for by all others."""
    started, message = thread_time(), ""
    try:
        generate(compiler, tokenizer, spec, 0, max_tokens=50)
    except (ConstraintError, StuckConstraintError) as error:
        message = str(error)
    assert len(message) < 400
    assert thread_time() - started < 3.0


SIZES = [
    ("abc", 3),
    (r"\d{3}", 3),
    ("(ab){10}", 20),
    ("((a{10}){10}){10}", 1000),
    ("[a-z]{2,5}x", 6),
    ("a{,}", 3),
    ("a{3", 3),
]


@pytest.mark.parametrize(("regex", "size"), SIZES)
def test_expressions_are_measured_as_written_out(regex: str, size: int) -> None:
    assert abs(measure_regex(regex) - size) <= 2
