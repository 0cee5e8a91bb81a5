"""Each dependency is declared, imported, explained in CONTRIBUTING.md and locked; nothing else is imported."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT, read_yaml
from tests.house.test_layers import imports, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAIN = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
IN_NO_LOCK = {"llama"}  # compiles llama.cpp
RUNS_AS_A_COMMAND = {"dvc"}
REFERENCE = {"datasketch"}  # tests and benchmarks compare our signatures with it; it is part of the corpus
PINNED_FOR_ANOTHER = {"fastapi"}  # for prefect
MODULES = {  # modules that are not named like their distribution
    "fasttext-community": "fasttext",
    "prompt-toolkit": "prompt_toolkit",
    "phonenumberslite": "phonenumbers",
    "python-stdnum": "stdnum",
    "ruamel-yaml": "ruamel",
    "license-expression": "license_expression",
    "huggingface-hub": "huggingface_hub",
    "markdown-it-py": "markdown_it",
    "faiss-cpu": "faiss",
    "pystemmer": "Stemmer",
    "lm-eval": "lm_eval",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "opentelemetry-semantic-conventions": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "pydantic-monty": "pydantic_monty",
}
OURS = {"pipeline", "model", "flows", "assistant", "service", "benchmarks", "tests"}


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


@cache
def imported() -> frozenset[str]:
    """Return the top-level third-party modules that the product imports (benchmarks and tests are not part of it)."""
    files = [path for path in sources() if path.relative_to(ROOT).parts[0] != "benchmarks"]
    modules = {name.partition(".")[0] for path in files for name in imports(path)}
    return frozenset(modules - OURS - set(sys.stdlib_module_names))


def locked(lock: str) -> dict[str, str]:
    """Return the packages of a lock with their versions."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", sorted(names(MAIN) - RUNS_AS_A_COMMAND - REFERENCE - PINNED_FOR_ANOTHER))
def test_each_dependency_is_imported(name: str) -> None:
    assert MODULES.get(name, name) in imported()


def test_nothing_undeclared_is_imported() -> None:
    optional = [
        requirement
        for extra in ("dask", "ray", "s3", "export", "sweep", "retrieval", "lm-eval", "cluster")
        for requirement in EXTRAS[extra]
    ]
    declared = {MODULES.get(name, name) for name in names(MAIN) | names(optional)}
    assert imported() - {"triton"} <= declared  # triton comes with torch where there is a GPU


def test_contributing_explains_each_dependency() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \|", text.partition("## Why each dependency")[2], re.MULTILINE)[1:]
    cells = [re.sub(r"\(.*?\)", "", row) for row in rows]
    extras = {name.strip() for cell in cells if cell.startswith("extra") for name in cell.split(" ", 1)[1].split(",")}
    packages = {
        canonicalize_name(name.strip()) for cell in cells if not cell.startswith("extra") for name in cell.split(",")
    }
    assert packages == names(MAIN) | names(EXTRAS["dev"])
    assert extras == set(EXTRAS) - {"dev"}


def test_the_run_lock_has_what_is_imported_and_the_corpus_at_its_versions() -> None:
    versions = locked("requirements.lock")
    for requirement in [*MAIN, *EXTRAS["corpus"]]:
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    exact = {canonicalize_name(r.name) for r in [*MAIN, *EXTRAS["corpus"]] if str(r.specifier).startswith("==")}
    source = next(s for s in read_yaml(ROOT / "params.yaml")["download"]["sources"] if s["kind"] == "python_docs")
    assert {canonicalize_name(name) for name in source["packages"]} - {"stdlib"} <= exact


def test_development_tools_are_in_the_test_lock_alone() -> None:
    run, test = locked("requirements.lock"), locked("requirements-test.lock")
    assert not set(run) & set(test)
    for extra, requirements in EXTRAS.items():
        if extra not in IN_NO_LOCK:
            assert names(requirements) <= set(run) | set(test)
    assert {"pytest", "ruff", "pyright", "ray", "spacy", "moto"} <= set(test)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_locks_have_hashes_and_no_address_local_build_or_cuda_package(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z])", text)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?://|file:|--index|--find-links|==\S*\+", text)
    assert not [name for name in locked(lock) if name.startswith(("nvidia-", "cuda-", "triton"))]
