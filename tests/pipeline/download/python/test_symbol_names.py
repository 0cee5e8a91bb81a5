"""Inherited members, aliases and copied docstrings are documents under the names that people use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.download.python.symbol_names import MAX_INHERITED
from tests.pipeline.download.python.packages import get_definition, read_package


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", "1")


def test_members_of_a_private_base_have_the_names_of_its_public_classes(tmp_path: Path) -> None:
    documents = read_package(
        tmp_path,
        {
            "lib/__init__.py": "from lib._base import Base\nfrom lib._frame import Frame, Series\n",
            "lib/_base.py": 'class Base:\n    """A base."""\n    def copy(self):\n        """Copy."""\n',
            "lib/_frame.py": '''
from . import _base as base
class _Shared(base.Base):
    """Shared."""
    def head(self, n: int = 5):
        """Return the first rows."""
    def tail(self, n: int = 5):
        """Return the last rows."""
class Frame(_Shared):
    """A frame."""
    def tail(self, n: int = 7): pass
class Series(Frame):
    """A series."""
    def head(self):
        """Return the first values."""
''',
        },
    )
    assert {title: document.is_search_only for title, document in documents.items()} == {
        "lib.Base": False,
        "lib.Base.copy": False,  # public: the classes that inherit it list it as an ancestor
        "lib.Frame": False,
        "lib.Frame.head": False,
        "lib.Frame.tail": False,
        "lib.Series": False,
        "lib.Series.head": False,
        "lib.Series.tail": True,
    }
    assert documents["lib.Frame.head"].text == "lib.Frame.head(n: int = 5)\n\nReturn the first rows."
    assert documents["lib.Frame.tail"].text == "lib.Frame.tail(n: int = 7)\n\nReturn the last rows."
    assert get_definition(documents["lib.Frame.head"]) == "lib._frame._Shared.head"
    assert get_definition(documents["lib.Series.tail"]) == "lib._frame._Shared.tail"
    assert json.loads(documents["lib.Series"].locator)["bases"] == [
        "lib._frame.Frame",
        "lib._frame._Shared",
        "lib._base.Base",
    ]
    assert "bases" not in json.loads(documents["lib.Base"].locator)


def test_members_of_a_reexported_class_keep_its_name(tmp_path: Path) -> None:
    """torch.nn.Module.parameters is what people ask for, although a subclass has a shorter name."""
    documents = read_package(
        tmp_path,
        {
            "lib/__init__.py": "",
            "lib/nn/__init__.py": "from lib.nn.modules import Module",
            "lib/nn/modules.py": 'class Module:\n    """M."""\n    def parameters(self):\n        """Return them."""\n',
            "lib/func.py": 'from lib.nn import Module\nclass Functional(Module):\n    """F."""\n',
        },
    )
    assert documents.keys() == {"lib.nn.Module", "lib.nn.Module.parameters", "lib.func.Functional"}
    assert json.loads(documents["lib.func.Functional"].locator)["bases"] == ["lib.nn.modules.Module"]


def test_bound_methods_and_aliases_are_names(tmp_path: Path) -> None:
    documents = read_package(
        tmp_path,
        {
            "lib/__init__.py": "",
            "lib/dice.py": '''
class Dice:
    """Dice."""
    def throw(self, n=1):
        """Throw the dice."""
    roll = throw
def shuffle(x):
    """Shuffle."""
mix = shuffle
_inst = Dice()
throw = _inst.throw
hidden = _unknown.thing
loop = loop2
loop2 = loop
''',
        },
    )
    assert {title: document.is_search_only for title, document in documents.items()} == {
        "lib.dice.Dice": False,
        "lib.dice.throw": False,  # shorter than the name of the definition, which the locator has
        "lib.dice.Dice.throw": True,
        "lib.dice.Dice.roll": True,
        "lib.dice.shuffle": False,
        "lib.dice.mix": True,
    }
    assert get_definition(documents["lib.dice.throw"]) == "lib.dice.Dice.throw"
    assert documents["lib.dice.mix"].text == "lib.dice.mix(x)\n\nShuffle."


def test_a_decorator_copies_a_docstring_and_an_accessor_has_members(tmp_path: Path) -> None:
    documents = read_package(
        tmp_path,
        {
            "lib/__init__.py": "from lib._axes import Axes",
            "lib/_axes.py": 'class Axes:\n    """Axes."""\n    def plot(self, *args):\n        """Plot y versus x."""\n',
            "lib/pyplot.py": """
from lib._axes import Axes
import functools
@_copy_docstring_and_deprecators(Axes.plot)
def plot(*args, scalex=True):
    return gca().plot(*args)
@functools.wraps(Axes.missing)
def other(): pass
""",
            "lib/strings/methods/text.py": 'class Methods:\n    """Text."""\n    def upper(self):\n        """Raise."""\n',
            "lib/series.py": '''
from lib.strings.methods.text import Methods
class Series:
    """Series."""
    str = CachedAccessor("str", Methods)
    maker = Methods
''',
        },
    )
    assert documents["lib.pyplot.plot"].text == "lib.pyplot.plot(*args, scalex=True)\n\nPlot y versus x."
    assert documents["lib.pyplot.plot"].is_search_only
    assert not documents["lib.Axes.plot"].is_search_only
    assert not documents["lib.series.Series.str.upper"].is_search_only
    assert not {"lib.pyplot.other", "lib.series.Series.maker", "lib.strings.methods.text.Methods.upper"} & set(
        documents
    )


def test_what_very_many_classes_inherit_has_one_document(tmp_path: Path) -> None:
    n = MAX_INHERITED + 1
    classes = "".join(f'class C{at:02d}(_Mixin):\n    """C."""\n' for at in range(n))
    source = f'class _Mixin:\n    def get_routing(self):\n        """Return the routing."""\n{classes}'
    documents = read_package(tmp_path, {"lib/__init__.py": source})
    assert [title for title in documents if title.endswith("get_routing")] == ["lib.C00.get_routing"]
    assert json.loads(documents[f"lib.C{n - 1:02d}"].locator)["bases"] == ["lib._Mixin"]


def test_cycles_of_bases_and_imports_end(tmp_path: Path) -> None:
    documents = read_package(
        tmp_path,
        {
            "lib/__init__.py": "from lib.a import *\nfrom lib.b import *\n",
            "lib/a.py": 'from lib.b import B\nfrom lib.b import *\nclass A(B):\n    """A."""\nx = y\n',
            "lib/b.py": 'from lib.a import A, x as y\nfrom lib.a import *\nclass B(A):\n    """B."""\nclass D(D):\n    """D."""\n',
        },
    )
    assert {"lib.A", "lib.B", "lib.D"} <= set(documents)


def test_a_private_class_that_nobody_inherits_from_is_no_document(tmp_path: Path) -> None:
    source = 'class _Hidden:\n    """Hidden."""\n    def shown(self):\n        """Shown."""\n'
    assert read_package(tmp_path, {"lib/__init__.py": f'"""Lib."""\n{source}'}).keys() == {"lib"}
