"""The order of bases is Python's own method resolution order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.download.python.docstrings import parse_file
from pipeline.download.python.inherited_names import InheritedNames, ModuleSource
from pipeline.download.python.public_names import PublicNames


def resolve_classes(source: str) -> InheritedNames:
    parsed = parse_file(source.encode(), "lib", False)
    symbols = {symbol.qualname: symbol for symbol in (*parsed.symbols, *parsed.bare) if symbol.qualname}
    return InheritedNames({"lib": ModuleSource(parsed.exports, parsed.definitions, symbols)}, PublicNames({}))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sets(st.integers(0, 7), max_size=3), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_ancestors_are_in_the_order_of_python(bases: list[set[int]], rng: object) -> None:
    classes: dict[str, type] = {}
    lines: list[str] = []
    for at, chosen in enumerate(bases):
        names = [f"C{base}" for base in sorted(chosen, key=lambda base: rng.random()) if f"C{base}" in classes]  # type: ignore[attr-defined]
        try:
            classes[f"C{at}"] = type(f"C{at}", tuple(classes[name] for name in names), {})
        except TypeError:  # Python refuses bases whose orders contradict each other
            continue
        lines.append(f"class C{at}({', '.join(names)}): pass")
    found = resolve_classes("\n".join(lines))
    for name, cls in classes.items():
        assert [base for _, base in found.linearize(("lib", name))] == [base.__name__ for base in cls.__mro__[:-1]]


def test_contradicting_bases_still_have_an_order() -> None:
    found = resolve_classes("class A: pass\nclass B(A): pass\nclass C(A, B): pass\n")
    assert found.linearize(("lib", "C")) == (("lib", "C"), ("lib", "A"), ("lib", "B"))
