"""Test finding public names by following re-exports."""

from __future__ import annotations

import pytest

from pipeline.download.python.docstrings import Exports
from pipeline.download.python.public_names import Module, PublicNames


def make_names(**modules: Module) -> PublicNames:
    return PublicNames({name.replace("__", "."): module for name, module in modules.items()})


def make_module(*defined: str, package: bool = False, **exports: object) -> Module:
    return Module(package, Exports(**exports), frozenset(defined))  # type: ignore[arg-type]


NUMPY = make_names(
    np=make_module(package=True, names={"mean": ("np._core", "mean"), "linalg": ("np", "linalg")}),
    np___core=make_module(package=True, stars=["np._core.numeric"]),
    np___core__numeric=make_module("mean", "helper", listed=["mean"]),
    np__linalg=make_module(package=True, stars=["np.linalg._linalg"]),
    np__linalg___linalg=make_module("norm", "inner", listed=["norm"]),
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
def test_the_shortest_public_import_path_is_the_name(where: str, qualname: str, expected: str) -> None:
    assert NUMPY.get_name(where, qualname) == expected


def test_an_import_for_internal_use_is_not_a_reexport() -> None:
    names = make_names(
        p=make_module(package=True),
        p__a=make_module(names={"tool": ("p.deep.b", "tool")}),
        p__deep__b=make_module("tool"),
    )
    assert names.get_name("p.deep.b", "tool") == "p.deep.b.tool"


def test_a_public_module_that_star_imports_a_private_one_exports_its_names() -> None:
    names = make_names(
        decimal=make_module(stars=["_decimal", "_pydecimal"]), _pydecimal=make_module("Decimal", listed=["Decimal"])
    )
    assert names.get_name("_pydecimal", "Decimal.sqrt") == "decimal.Decimal.sqrt"


def test_the_class_of_an_exported_instance_is_named_after_it() -> None:
    names = make_names(
        st=make_module(package=True, names={"norm": ("st._dist", "norm")}),
        st___dist=make_module("norm_gen", instances={"norm": "norm_gen"}),
    )
    assert names.get_name("st._dist", "norm_gen.cdf") == "st.norm.cdf"


def test_circular_reexports_terminate() -> None:
    names = make_names(
        a=make_module(package=True, stars=["b"], names={"x": ("b", "x")}),
        b=make_module(package=True, stars=["a"], names={"x": ("a", "x")}),
    )
    assert names.get_name("a", "x") == "a.x"


def test_an_imported_all_is_used() -> None:
    names = make_names(
        abc=make_module(stars=["_abc"], listed_from="_abc"), _abc=make_module("Map", "Own", listed=["Map"])
    )
    assert (names.get_name("_abc", "Map"), names.get_name("_abc", "Own")) == ("abc.Map", "_abc.Own")
