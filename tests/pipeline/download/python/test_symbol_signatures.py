"""Test rendering signatures from the syntax tree."""

from __future__ import annotations

import ast
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.python.symbol_signatures import (
    DEFINITIONS,
    MAX_SIGNATURE,
    SourceLines,
    get_decorator_names,
    join_parameters,
    render_class_signature,
    render_function_signature,
    split_signature,
)


def render(source: str, is_method: bool = False) -> str:
    node = ast.parse(source).body[0]
    assert isinstance(node, DEFINITIONS)
    prefix, signature = render_function_signature(
        node, get_decorator_names(node), is_method, SourceLines(source.encode().splitlines())
    )
    return f"{prefix}f{signature}"


@pytest.mark.parametrize(
    ("source", "is_method", "expected"),
    [
        ("def f(): pass", False, "f()"),
        ("def f(a, b=1, *c, d, e=None, **g): pass", False, "f(a, b=1, *c, d, e=None, **g)"),
        ("def f(a, /, b, *, c: int = 3) -> list[str]: pass", False, "f(a, /, b, *, c: int = 3) -> list[str]"),
        ("def f(self, /, x): pass", True, "f(x)"),
        ("def f(self, x, /, y): pass", True, "f(x, /, y)"),
        ("def f(*args): pass", True, "f(*args)"),
        ("async def f(a): pass", False, "async f(a)"),
        ("@property\ndef f(self) -> int: pass", True, "property f -> int"),
        ("@functools.cached_property\ndef f(self): pass", True, "property f"),
        ("@classmethod\ndef f(cls, a): pass", True, "classmethod f(a)"),
        ("@staticmethod\ndef f(a): pass", True, "staticmethod f(a)"),
        ("def f(a=(1, 2), b='é', c=[\n  1,\n  2]): pass", False, "f(a=(1, 2), b='é', c=[1, 2])"),
    ],
)
def test_a_function_signature_is_rendered(source: str, is_method: bool, expected: str) -> None:
    assert render(source, is_method) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class C:\n  def __init__(self, a, b=2): pass", "(a, b=2)"),
        ("class C:\n  def __new__(cls, a): pass", "(a)"),
        (
            "@dataclass(frozen=True)\nclass C:\n  a: int\n  b: str = 'x'\n  k: ClassVar[int] = 1\n  _p: int = 0",
            "(a: int, b: str = 'x')",
        ),
        ("class C:\n  a: int = 1", ""),
    ],
)
def test_a_class_signature_is_that_of_its_constructor(source: str, expected: str) -> None:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.ClassDef)
    assert render_class_signature(node, node.body, SourceLines(source.encode().splitlines())) == expected


@given(st.lists(st.from_regex(r"[a-z]{1,40}=[0-9]{1,40}", fullmatch=True), max_size=40))
def test_long_signatures_are_cut_after_whole_parameters(rendered: list[str]) -> None:
    text = join_parameters(rendered, " -> int")
    kept = text.removeprefix("(").removesuffix(" -> int").removesuffix(")").split(", ") if rendered else []
    assert len(text) <= MAX_SIGNATURE
    assert kept in (rendered, [*rendered[: len(kept) - 1], "..."])


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("f(x, y=(1, 2)) -> int\n\nAdds.", ("(x, y=(1, 2)) -> int", "Adds.")),
        ("np.f(\n    x,\n    y=None,\n)\n--\n\nf(x, y=None)\n\nAdds.", ("(x, y=None)", "Adds.")),
        ("f(x) adds one.", ("", "f(x) adds one.")),
        ("f(x) -> int", ("", "f(x) -> int")),
        ("g(x)\n\nSays g.", ("", "g(x)\n\nSays g.")),
        ("f(x\n\nis never closed", ("", "f(x\n\nis never closed")),
        ("", ("", "")),
    ],
)
def test_a_leading_signature_is_split_from_the_docstring(doc: str, expected: tuple[str, str]) -> None:
    assert split_signature(inspect.cleandoc(doc), "f") == expected


@pytest.mark.parametrize(
    ("doc", "name", "signature", "rest"),
    [
        ("range(stop) -> range object\nrange(start, stop[, step]) -> range object\n\nReturn it.", "range",
         "(start, stop[, step]) -> range object", "Return it."),
        ("zip(*its) --> Yield tuples until an input is exhausted.\n\n  >>> zip()", "zip",
         "(*its)", "Yield tuples until an input is exhausted.\n\n  >>> zip()"),
        ("D.pop(k[,d]) -> v, remove specified key and return the value.\n\nIf not.", "pop",
         "(k[,d])", "Remove specified key and return the value.\n\nIf not."),
        ("d([x]) --> d object\n\nA list.", "d", "([x]) -> d object", "A list."),
        ("d() -> new d\nd(m) -> new d made from the pairs of m\n", "d", "() -> new d", "d(m) -> new d made from the pairs of m\n"),
    ],
)  # fmt: skip
def test_openings_of_compiled_functions(doc: str, name: str, signature: str, rest: str) -> None:
    found, text = split_signature(doc, name)
    assert (found, text.strip()) == (signature, rest.strip())
