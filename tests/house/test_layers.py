"""Doors and silence: one importer per heavy library, and importing a module does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("pipeline", "model", "flows", "assistant", "benchmarks")
DOORS = {
    "mlflow": {"pipeline/registry/__main__.py", "assistant/inference/mlflow_agent.py"},
    "pyarrow.parquet": {"pipeline/storage/tables.py", "pipeline/download/readers/text.py"},
    "pyarrow.ipc": {"pipeline/storage/arrow.py", "model/data/batches.py"},
    "fasttext": {"pipeline/filter/classifiers/fasttext.py"},
    "datatrove": "benchmarks/",
    "torch.distributed": {
        "model/machine/distributed.py",
        "model/training/sharding.py",
        "model/training/sharded_checkpoint.py",
        "pipeline/launch.py",
    },
    "prefect": "flows/",
    "optuna": {"pipeline/sweep/study.py"},
    "dvc": set(),
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every dotted name that a file imports, `from a import b` as a.b and a."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("library", DOORS)
def test_one_door_per_heavy_library(library: str) -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in sources()
        if any(name == library or name.startswith(library + ".") for name in imports(path))
    }
    door = DOORS[library]
    strangers = {name for name in found if not name.startswith(door)} if isinstance(door, str) else found - door
    assert not strangers


def test_the_assistant_has_one_door_to_the_weights_and_one_to_the_values() -> None:
    """assistant/inference/local.py loads a model; assistant/conversation/events.py passes on types that need the standard library only."""
    found = {
        str(path.relative_to(ROOT)): {name for name in imports(path) if name.startswith("model.")}
        for path in (ROOT / "assistant").rglob("*.py")
        if any(name == "model" or name.startswith("model.") for name in imports(path))
    }
    assert found.keys() == {"assistant/inference/local.py", "assistant/conversation/events.py"}
    assert {".".join(name.split(".")[:3]) for name in found["assistant/conversation/events.py"]} == {
        "model.tokenizer.chat",
        "model.inference.sampling",
    }


@pytest.mark.parametrize(
    "module",
    [
        "model.tokenizer.chat",
        "model.inference.sampling",
        "assistant.conversation.events",
        "assistant.conversation.session",
    ],
)
def test_values_need_the_standard_library_only(module: str) -> None:
    heavy = ("torch", "numpy", "tokenizers", "pyarrow", "pydantic", "numba")
    probe = f"import sys, {module}; print(*sorted(set(sys.modules) & set({heavy!r})))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_module_says_what_it_is() -> None:
    for path in sources():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


PROBE = """
import sys, os
root = sys.argv[1]
def hook(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes and "__pycache__" not in str(args[0]) and str(args[0]).startswith(root):
        raise SystemExit(f"opened {args[0]} for writing")
    if event in ("os.mkdir", "os.rename", "os.remove") and str(args[0]).startswith(root) and "__pycache__" not in str(args[0]):
        raise SystemExit(f"{event} {args[0]}")
    if event == "subprocess.Popen" and not str(args[0]).endswith(("ldconfig", "gcc", "cc")):
        raise SystemExit(f"started {args[0]}")
for name in sys.argv[2:]:
    __import__(name)
sys.addaudithook(hook)
for name in sys.argv[2:]:
    for module in [m for m in sys.modules if m.split(".")[0] in ("pipeline", "model", "flows", "assistant")]:
        del sys.modules[module]
    __import__(name)
"""


def test_importing_a_module_writes_and_starts_nothing() -> None:
    """Twice: the first import is for the libraries, whose doings are not ours."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources()
        if path.name != "__main__.py" and path.parts[-2] != "benchmarks" and path.name != "mlflow_agent.py"
    ]
    modules = [name.removesuffix(".__init__") for name in names if name.startswith(("pipeline", "model", "assistant"))]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(ROOT), *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
