"""Check what import-linter can't: one importer per heavy library, no imported __main__, and no side effects of importing a
module."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("pipeline", "model", "flows", "assistant", "service", "benchmarks")
DOORS = {  # library: paths that import it, or folders of such paths
    "cedarpy": ("service/policy/",),
    "datatrove": ("benchmarks/",),
    "dvc": (),
    "fasttext": ("pipeline/filter/classifiers/fasttext.py",),
    "fsspec": ("pipeline/storage/files.py", "pipeline/workers/results.py", "pipeline/download/readers/text.py"),
    "gigatoken": ("pipeline/text/encode.py", "benchmarks/text/vocabularies.py"),
    "httpx": (
        "pipeline/download/readers/fetch.py",
        "service/inference/",
        "service/observability/trace_export.py",
        "service/redteam/targets.py",
        "service/tooling/sources/fetch_page.py",
        "benchmarks/serving/capacity.py",
    ),
    "huggingface_hub": ("pipeline/download/readers/huggingface.py", "benchmarks/text/vocabularies.py"),
    "jinja2": ("pipeline/report/",),
    "llguidance": ("model/constraints/",),
    "mcp": ("service/tooling/protocol/",),
    "mlflow": (
        "pipeline/registry/store.py",
        "assistant/inference/mlflow_agent.py",
    ),  # MLflow itself loads the second one
    "optuna": ("pipeline/sweep/study.py",),
    "opentelemetry": ("service/observability/",),
    "prefect": ("flows/",),
    "prometheus_client": ("service/observability/",),
    "pyarrow.ipc": ("pipeline/storage/arrow.py", "model/data/batches.py", "model/retrieval/mapped_arrays.py"),
    "pyarrow.parquet": ("pipeline/storage/tables.py",),
    "pydantic_monty": ("service/tooling/jail/monty_jail.py",),
    "redis": ("service/access/",),
    "sandlock": ("service/tooling/jail/cpython_jail.py",),
    "sqlalchemy": ("service/", "benchmarks/service/"),
    "tokenizers": ("model/tokenizer/",),
    "torch.distributed": (
        "model/machine/distributed.py",
        "model/training/sharding.py",
        "model/training/sharded_checkpoint.py",
        "pipeline/launch.py",
    ),
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Return every dotted name that a file imports: `from a import b` as a and a.b, `import a as c` with `c.b` as a and a.b."""
    names: set[str] = set()
    aliases: dict[str, str] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            aliases |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            names.add(f"{aliases[node.value.id]}.{node.attr}")
    return frozenset(names)


@pytest.mark.parametrize("library", DOORS)
def test_a_heavy_library_is_imported_by_its_door_alone(library: str) -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in sources()
        if any(name == library or name.startswith(library + ".") for name in imports(path))
    }
    assert {name for name in importers if not name.startswith(DOORS[library])} == set()
    assert [door for door in DOORS[library] if not any(name.startswith(door) for name in importers)] == []


def test_no_module_imports_a_command_line() -> None:
    for path in sources():
        assert not [name for name in imports(path) if "__main__" in name.split(".")], path


def test_the_assistant_loads_weights_in_one_file() -> None:
    """inference/local.py loads a model; the others import types, grounding and retrieval, which need no weights."""
    importers = {
        str(path.relative_to(ROOT)): {name for name in imports(path) if name.startswith("model.")}
        for path in (ROOT / "assistant").rglob("*.py")
    }
    door = "assistant/inference/local.py"
    assert any(name.startswith("model.network") for name in importers[door])
    weightless = (
        "model.grounding",
        "model.guard",
        "model.masking",
        "model.retrieval",
        "model.tokenizer.chat",
        "model.inference.sampling",
        "model.tokenizer.tokenizer",
        "model.constraints",
        "model.inference.batching",  # of a loaded model
        "model.inference.token_controls",
        "model.serving",
    )
    others = {name for path, names in importers.items() if path != door for name in names}
    assert not [name for name in others if not name.startswith(weightless)]


@pytest.mark.parametrize(
    "module",
    [
        "model.tokenizer.chat",
        "model.inference.sampling",
        "assistant.conversation.events",
        "assistant.conversation.session",
    ],
)
def test_types_need_the_standard_library_only(module: str) -> None:
    heavy = ("torch", "numpy", "tokenizers", "pyarrow", "pydantic", "numba")
    probe = f"import sys, {module}; print(*sorted(set(sys.modules) & set({heavy!r})))"
    process = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ""


def test_every_module_has_a_docstring() -> None:
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
    for module in [m for m in sys.modules if m.split(".")[0] in ("pipeline", "model", "flows", "assistant", "service")]:
        del sys.modules[module]
    __import__(name)
"""


@pytest.mark.slow
def test_importing_a_module_writes_no_file_and_starts_no_process() -> None:
    """Import twice: libraries may have side effects when they are first imported, and only ours are checked."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources()
        if path.name != "__main__.py" and path.parts[-2] != "benchmarks" and path.name != "mlflow_agent.py"
    ]
    modules = [name.removesuffix(".__init__") for name in names if name.startswith(("pipeline", "model", "assistant"))]
    process = subprocess.run(
        [sys.executable, "-c", PROBE, str(ROOT), *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
