"""Test reading the symbols of one file."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.python.docstrings import Parsed, Symbol, UnreadableError, clean_docstring, parse_file


def parse(source: str, module: str = "pkg.mod", is_package: bool = False) -> Parsed:
    return parse_file(textwrap.dedent(source).encode(), module, is_package)


def parse_symbols(source: str, module: str = "pkg.mod") -> dict[str, Symbol]:
    return {f"{symbol.module}:{symbol.qualname}".lstrip(":"): symbol for symbol in parse(source, module).symbols}


def test_module_class_function_and_method_become_symbols() -> None:
    symbols = parse_symbols('''
        """The module."""
        def run(a, b=1) -> int:
            """Runs."""
            def inner():
                """Never seen."""
        class Box:
            """A box."""
            def open(self, key): "Opens."
            @property
            def size(self) -> int:
                """Its size."""
            @size.setter
            def size(self, value):
                """Not this one."""
            class Lid:
                """Its lid."""
    ''')
    assert {name: (symbol.kind, symbol.prefix, symbol.signature, symbol.doc) for name, symbol in symbols.items()} == {
        "": ("module", "", "", "The module."),
        "run": ("function", "", "(a, b=1) -> int", "Runs."),
        "Box": ("class", "", "", "A box."),
        "Box.open": ("method", "", "(key)", "Opens."),
        "Box.size": ("method", "property ", " -> int", "Its size."),
        "Box.Lid": ("class", "", "", "Its lid."),
    }
    assert symbols["run"].line == 3


def test_private_functions_are_skipped_and_undocumented_names_counted() -> None:
    result = parse('''
        def _hidden(): """No."""
        class _Hidden:
            """No."""
            def shown(self): """No."""
        class Plain:
            def __init__(self): pass
            def bare(self): pass
        def bare(): pass
    ''')
    assert [symbol.qualname for symbol in result.symbols] == ["_Hidden", "_Hidden.shown"]  # for public subclasses
    assert result.undocumented == 4  # the module, Plain, Plain.bare, bare


def test_a_class_includes_the_docstring_of_init() -> None:
    symbols = parse_symbols('''
        class A:
            """A thing."""
            def __init__(self, size):
                """size: how large."""
        class B:
            def __init__(self, size):
                """Only here."""
    ''')
    assert symbols["A"].doc == "A thing.\n\nsize: how large."
    assert (symbols["B"].doc, symbols["B"].signature) == ("Only here.", "(size)")


def test_conditional_definitions_and_overloads_count_once() -> None:
    result = parse('''
        if True:
            def run(): """First."""
        else:
            def run(): """Second."""
        @overload
        def load(a: int) -> int: ...
        @typing.overload
        def load(a: str) -> str: ...
        def load(a): """Loads."""
    ''')
    assert [(symbol.qualname, symbol.signature, symbol.doc) for symbol in result.symbols] == [
        ("run", "()", "First."),
        ("load", "(a)", "Loads."),
    ]


def test_documentation_attached_by_calls_is_read() -> None:
    symbols = parse_symbols(
        '''
        args = parse_kwargs("""
            x (Tensor): the input
        """)
        add_newdoc('pkg.core', 'array', """array(x)

        Makes an array.""")
        add_newdoc('pkg.core', 'array', ('T', """Transposed."""))
        add_docstr(pkg.abs, r"""abs(x) -> Tensor

        Absolute.

        Args:
            {x}
        """.format(**args))
        conv = _add_docstr(pkg.conv_, """conv(x) -> y\\n\\nConvolves.""")
        def later(): pass
        later.__doc__ = "Documented" + " later."
        add_newdoc(unknown, name, doc)
        ''',
        "pkg.docs",
    )
    assert {name: (symbol.kind, symbol.signature, symbol.doc) for name, symbol in symbols.items()} == {
        "pkg.core:array": ("class", "(x)", "Makes an array."),
        "pkg.core:array.T": ("method", "", "Transposed."),
        "pkg:abs": ("function", "(x) -> Tensor", "Absolute.\n\nArgs:\n    x (Tensor): the input"),
        "conv": ("function", "(x) -> y", "Convolves."),
        "later": ("function", "()", "Documented later."),
    }


def test_an_instance_is_documented_by_its_class_and_call_method() -> None:
    result = parse('''
        class Flow:
            def __call__(self, fn, name=None):
                """Makes a flow."""
        flow: Flow = Flow()
    ''')
    assert result.exports.instances == {"flow": "Flow"}
    assert [(symbol.qualname, symbol.signature, symbol.doc) for symbol in result.symbols] == [
        ("Flow", "(fn, name=None)", "Makes a flow.")
    ]


@pytest.mark.parametrize(("module", "is_package"), [("pkg.sub", True), ("pkg.sub.mod", False)])
def test_relative_imports_are_resolved_against_the_package(module: str, is_package: bool) -> None:
    exports = parse("from .a import b as c\nfrom ..x import *\nfrom os import path", module, is_package).exports
    assert exports.names == {"c": ("pkg.sub.a", "b"), "path": ("os", "path")}
    assert exports.stars == ["pkg.x"]


@pytest.mark.parametrize(
    ("source", "listed"),
    [
        ("__all__ = ['a', 'b']", ["a", "b"]),
        ("__all__ = ['a']\n__all__ += ['b']", ["a", "b"]),
        ("__all__ = ['a']\n__all__.extend(['b'])", ["a", "b"]),
        ("__all__ = ['a']\n__all__ += other.__all__", None),
        ("__all__ = [name for name in dir()]", None),
        ("x = 1", None),
    ],
)
def test_all_is_used_only_while_it_is_a_literal(source: str, listed: list[str] | None) -> None:
    assert parse(source).exports.listed == listed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"x = '\xff'", "not_utf8"),
        (b"# coding: nonsense\n", "not_utf8"),
        (b"def broken(:\n", "not_python"),
        (b"x = '\0'", "not_python"),
        (b"(" * 3000, "not_python"),
    ],
)
def test_invalid_python_is_rejected_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        parse_file(data, "m", False)
    assert caught.value.reason == reason


@pytest.mark.parametrize("head", [b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\n"])
def test_declared_encodings_are_respected(head: bytes) -> None:
    encoding = "latin-1" if head.startswith(b"#") else "utf-8"
    data = head + "def f(a='é', b=2):\n    'Café.'\n".encode(encoding)
    [symbol] = parse_file(data, "m", False).symbols
    assert (symbol.signature, symbol.doc) == ("(a='é', b=2)", "Café.")


def test_invalid_escapes_are_ignored() -> None:
    [symbol] = parse_file(b'def f():\n    "A \\d."\n', "m", False).symbols
    assert symbol.doc == "A \\d."


def test_cleaning_removes_indentation_placeholders_and_control_characters() -> None:
    assert clean_docstring("  Normal.\n\n    %(before_notes)s\n\n    \b\n    Text.  \n    ") == "Normal.\n\n\n\nText."


def test_cleaning_removes_directives_for_checkers() -> None:
    doc = """Runs.

    >>> # xdoctest: +REQUIRES(env:CUDA)
    >>> run()  # doctest: +SKIP
    1
    See `here <https://x>`__  # noqa: B950
    """
    assert clean_docstring(doc) == "Runs.\n\n>>> run()\n1\nSee `here <https://x>`__"


@given(st.text())
def test_cleaning_is_idempotent_without_placeholders(text: str) -> None:
    once = clean_docstring(text)
    assert clean_docstring(once) == once or "{" in text or "%" in text
