"""Constrained decoding: what is complete is valid, whatever the model; what can't be enforced is refused by keyword and path."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from model.constraints.constraint_compiler import ConstraintCompiler
from model.constraints.constraint_spec import Kind
from model.tokenizer.tokenizer import Tokenizer, train_bpe

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


def test_complete_answers_are_valid(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    n_complete = 0
    for seed in range(20):
        ids, is_complete = generate(compiler, tokenizer, Spec("json_schema", PERSON), seed, 1000)
        if is_complete:
            n_complete += 1
            assert jsonschema_rs.is_valid(PERSON, json.loads(tokenizer.decode(ids)))
    assert n_complete >= 15


def test_an_expression_is_matched_as_a_whole(compiler: ConstraintCompiler, tokenizer: Tokenizer) -> None:
    expression = r"\d{3}-[a-c]{2,4}(é|漢)?"
    for seed in range(20):
        ids, is_complete = generate(compiler, tokenizer, Spec("regex", regex=expression), seed)
        assert is_complete
        assert re.fullmatch(expression, tokenizer.decode(ids), re.ASCII)
