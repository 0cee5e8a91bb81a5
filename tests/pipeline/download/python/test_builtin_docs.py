"""The compiled part of the standard library is described by a child process, whatever that child does."""

from __future__ import annotations

import builtins
import itertools
import json
import math
import sys
import time
from pathlib import Path

import pytest

from pipeline.download.params import PythonDocs
from pipeline.download.python import builtin_docs
from pipeline.download.python.builtin_docs import BuiltinModule, head_parameters, read_builtins
from pipeline.download.python.python_docs import open_source
from pipeline.download.readers.document import Document, Reject

SYMBOL = {"qualname": "f", "kind": "function", "prefix": "", "signature": "(x)", "doc": "Return x.", "bases": []}


@pytest.fixture(scope="module")
def found() -> dict[str, BuiltinModule]:
    return {module.name: module for module in read_builtins()}


def write_child(folder: Path, body: str) -> Path:
    """Write a child that describes the modules a and c, and does `body` instead of describing b."""
    (folder / "child.py").write_text(
        f"""
import json, os, sys, time
def say(**line): print(json.dumps(line), flush=True)
names = [name for name in "abc" if name not in sys.argv[1:]]
say(modules=names)
for name in names:
    say(begin=name)
    if name == "b":
        {body}
    say(module=name, symbols=[{SYMBOL!r}])
"""
    )
    return folder / "child.py"


@pytest.mark.parametrize(
    ("module", "name"), [(builtins, "builtins"), (math, "math"), (itertools, "itertools"), (time, "time")]
)
def test_every_documented_function_and_class_is_described(
    module: object, name: str, found: dict[str, BuiltinModule]
) -> None:
    parsed = found[name].parsed
    assert parsed is not None
    documented = {symbol.qualname for symbol in parsed.symbols}
    expected = {
        key
        for key, value in vars(module).items()
        if (isinstance(value, type) or type(value) is type(len)) and value.__doc__ and not key.startswith("_")
        if isinstance(value, type) or value.__module__ in (name, "_io", None)
        if not (isinstance(value, type) and name != "builtins" and value.__module__ == "builtins")
    }
    assert expected <= documented
    assert len(expected) > 5


def test_methods_of_built_in_types_have_signatures_without_self(found: dict[str, BuiltinModule]) -> None:
    parsed = found["builtins"].parsed
    assert parsed is not None
    symbols = {symbol.qualname: symbol for symbol in parsed.symbols}
    assert symbols["dict.get"].signature == "(key, default=None, /)"
    assert symbols["dict.fromkeys"].prefix == "classmethod "
    assert symbols["str.maketrans"].prefix == "staticmethod "
    assert symbols["int.real"].prefix == "property "
    assert "bit_length" not in {name.partition(".")[2] for name in symbols if name.startswith("bool.")}, "inherited"
    assert parsed.definitions.bases["bool"] == ["int"]
    assert not [symbol for symbol in symbols.values() if " at 0x" in symbol.signature]


@pytest.mark.parametrize("indent", ["", "  "])
def test_parameters_of_argument_clinic_get_their_heading_and_come_last(indent: str) -> None:
    block = (
        f"{indent}sep\n{indent}  The separator.\n\n{indent}  None splits at spaces.\n{indent}end\n{indent}  The end.\n"
    )
    doc = f"Split.\n\n{block}\nNote, sep is not a pattern."
    assert head_parameters(doc, "(sep=None, end='', file=None)") == (
        "Split.\n\nNote, sep is not a pattern.\n\nParameters\n----------\n"
        "sep\n  The separator.\n\n  None splits at spaces.\nend\n  The end."
    )
    assert head_parameters(doc, "(x)") == doc
    assert head_parameters("sep", "(sep)") == "sep"


def test_the_same_interpreter_gives_the_same_modules_in_order(found: dict[str, BuiltinModule]) -> None:
    assert read_builtins() == list(found.values())
    assert list(found) == sorted(found)
    assert all(module.parsed is not None for module in found.values()), [
        m.error for m in found.values() if not m.parsed
    ]


def test_the_child_sees_no_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = write_child(
        tmp_path, "say(module='b', error=repr([p for p in sys.path if 'site-packages' in p or not p])); continue"
    )
    found = {module.name: module for module in read_builtins(child)}
    assert found["b"].error == ("introspection_failed", "[]")


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        ("os.abort()", "introspection_crashed", "exit status -6"),
        ("sys.stderr.write('first\\nno memory'); os._exit(3)", "introspection_crashed", "exit status 3: no memory"),
        ("time.sleep(60)", "introspection_hangs", "no end after 1 s"),
        ("say(module='b', error='ImportError: no'); continue", "introspection_failed", "ImportError: no"),
        ("print('something else'); continue", "introspection_failed", "not a line of introspection"),
        ("say(module='b', symbols=[{'qualname': 'x y'}]); continue", "introspection_failed", "not a line"),
        ("os._exit(0)", "introspection_failed", "the output is incomplete"),
    ],
)
def test_a_module_that_breaks_the_child_is_named_and_the_others_are_read(
    body: str, reason: str, detail: str, tmp_path: Path
) -> None:
    found = {module.name: module for module in read_builtins(write_child(tmp_path, body), seconds=1.0)}
    assert found.keys() == {"a", "b", "c"}
    assert [name for name, module in found.items() if module.parsed] == ["a", "c"]
    assert found["b"].error[0] == reason
    assert detail in found["b"].error[1]


def test_a_child_that_never_begins_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text("import sys; sys.exit('broken')")
    [module] = read_builtins(tmp_path / "child.py")
    assert module == BuiltinModule("?", None, ("introspection_crashed", "exit status 1: broken"))


def test_too_much_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin_docs, "MAX_BYTES", 10)
    [module] = read_builtins(write_child(tmp_path, "pass"))
    assert module.error == ("introspection_failed", "more than 10 bytes of output")


def test_hostile_docstrings_become_text_or_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = {**SYMBOL, "doc": "\x1b[31mRed\x07 <|user|> text.\x00"}
    lines = [
        {"modules": ["math", "lone"]},
        {"begin": "math"},
        {"module": "math", "symbols": [hostile]},
        {"begin": "lone"},
        {"module": "lone", "symbols": [{**SYMBOL, "doc": "A \ud800."}]},
    ]
    (tmp_path / "child.py").write_text("\n".join(f"print({json.dumps(line)!r})" for line in lines))
    monkeypatch.setattr(
        "pipeline.download.python.python_docs.read_builtins", lambda: read_builtins(tmp_path / "child.py")
    )
    monkeypatch.setenv("MINIGPT_WORKERS", "1")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/mod.py").write_text('"""Mod."""\n')
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path / "lib"))
    batches = list(open_source(PythonDocs(kind="python_docs", packages=["stdlib"]), "s").batches)
    documents: dict[str, Document] = {document.title: document for batch in batches for document in batch.docs}
    rejects: list[Reject] = [reject for batch in batches for reject in batch.rejects]
    assert documents["math.f"].text == "math.f(x)\n\n[31mRed <|user|> text."
    assert json.loads(documents["math.f"].locator)["version"] == ".".join(map(str, sys.version_info[:3]))
    assert "file" not in json.loads(documents["math.f"].locator)
    assert [(reject.reason, json.loads(reject.locator)["module"]) for reject in rejects] == [
        ("introspection_failed", "lone")
    ]
