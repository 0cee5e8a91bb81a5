"""Test evaluating text expressions without running them."""

from __future__ import annotations

import ast

import pytest

from pipeline.download.python.static_text import MAX_TEXT, Names, evaluate_text, parse_argument_table

NAMES: Names = {"name": "MODEL", "table": {"dim": "dim (int): the axis", "out": "out: where"}}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'plain'", "plain"),
        ("'a' 'b' + 'c'", "abc"),
        ("name + '!'", "MODEL!"),
        ("'known ' + unknown()", "known "),
        ("f'{name} of {other}'", "MODEL of "),
        ("'{a} and {{b}}'.format(a='x')", "x and {b}"),
        ("'{} {}'.format('x', 'y')", "x y"),
        ("'Args: {dim}; {missing}'.format(**table)", "Args: dim (int): the axis; "),
        ("'%(name)s is %(missing)s' % globals()", "MODEL is "),
        ("textwrap.dedent('  x\\n  y')", "x\ny"),
        ("open('secret')", None),
        ("name[0]", None),
        ("1 + 2", None),
    ],
)
def test_an_expression_is_evaluated_or_none(expression: str, expected: str | None) -> None:
    assert evaluate_text(ast.parse(expression, mode="eval").body, NAMES) == expected


def test_a_format_string_cannot_grow_without_bound() -> None:
    names: Names = {"big": "x" * MAX_TEXT}
    text = evaluate_text(ast.parse("'{big}{big}{big}'.format(big=big)", mode="eval").body, names)
    assert text is not None
    assert len(text) <= MAX_TEXT


def test_argument_descriptions_are_keyed_by_name() -> None:
    table = parse_argument_table("\n    input (Tensor): the input\n        over two lines\n    dim (int): the axis\n")
    assert table == {"input": "input (Tensor): the input\n        over two lines", "dim": "dim (int): the axis"}
