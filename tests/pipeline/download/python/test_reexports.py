"""Public names by following re-exports."""

from __future__ import annotations

import pytest

from pipeline.download.python.docstrings import Exports
from pipeline.download.python.reexports import Module, PublicNames


def names(**modules: Module) -> PublicNames:
    return PublicNames({name.replace("__", "."): module for name, module in modules.items()})


def module(*defined: str, package: bool = False, **exports: object) -> Module:
    return Module(package, Exports(**exports), frozenset(defined))  # type: ignore[arg-type]


NUMPY = names(
    np=module(package=True, names={"mean": ("np._core", "mean"), "linalg": ("np", "linalg")}),
    np___core=module(package=True, stars=["np._core.numeric"]),
    np___core__numeric=module("mean", "helper", listed=["mean"]),
    np__linalg=module(package=True, stars=["np.linalg._linalg"]),
    np__linalg___linalg=module("norm", "inner", listed=["norm"]),
)


@pytest.mark.parametrize(
    ("where", "qualname", "expected"),
    [
        ("np._core.numeric", "mean", "np.mean"),
        ("np.linalg._linalg", "norm", "np.linalg.norm"),
        ("np.linalg._linalg", "norm.cache", "np.linalg.norm.cache"),
        ("np.linalg._linalg", "inner", "np.linalg._linalg.inner"),
        ("np.linalg._linalg", "", "np.linalg._linalg"),
        ("posixpath", "join", "os.path.join"),
    ],
)
def test_the_name_people_import_by(where: str, qualname: str, expected: str) -> None:
    assert NUMPY.of(where, qualname) == expected


def test_an_import_for_own_use_is_no_re_export() -> None:
    found = names(p=module(package=True), p__a=module(names={"tool": ("p.deep.b", "tool")}), p__deep__b=module("tool"))
    assert found.of("p.deep.b", "tool") == "p.deep.b.tool"


def test_a_public_module_that_stars_a_private_one_shows_its_names() -> None:
    found = names(decimal=module(stars=["_decimal", "_pydecimal"]), _pydecimal=module("Decimal", listed=["Decimal"]))
    assert found.of("_pydecimal", "Decimal.sqrt") == "decimal.Decimal.sqrt"


def test_an_instance_names_its_class() -> None:
    found = names(
        st=module(package=True, names={"norm": ("st._dist", "norm")}),
        st___dist=module("norm_gen", instances={"norm": "norm_gen"}),
    )
    assert found.of("st._dist", "norm_gen.cdf") == "st.norm.cdf"


def test_circles_end() -> None:
    found = names(
        a=module(package=True, stars=["b"], names={"x": ("b", "x")}),
        b=module(package=True, stars=["a"], names={"x": ("a", "x")}),
    )
    assert found.of("a", "x") == "a.x"


def test_a_taken_over_all_counts() -> None:
    found = names(abc=module(stars=["_abc"], listed_from="_abc"), _abc=module("Map", "Own", listed=["Map"]))
    assert (found.of("_abc", "Map"), found.of("_abc", "Own")) == ("abc.Map", "_abc.Own")
