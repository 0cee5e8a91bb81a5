"""Every task recipe is a folder docs/recipes/NAME with a graph, the sections that it uses, and a page; its nodes are stages.

A task recipe runs stages outside the default graph: on a finished model, into data/recipes/NAME.
"""

from __future__ import annotations

import importlib
import itertools
import shlex
import subprocess
from pathlib import Path
from typing import Any

import grimp
import pytest

from pipeline.params import OPTIONAL_STAGES, STAGES, check_stage_params
from pipeline.run import list_inputs
from tests.conftest import ROOT, read_yaml
from tests.house.test_dvc_deps import NO_CODE, find_rooms

RECIPES = sorted(path.parent for path in (ROOT / "docs" / "recipes").glob("*/dvc.yaml"))
MODULES = {
    "pipeline.registry": "pipeline.registry.__main__"
}  # commands that are no stages, and may be nodes of a recipe
NODES = [(recipe, name) for recipe in RECIPES for name in read_yaml(recipe / "dvc.yaml")["stages"]]
IDS = [f"{recipe.name}-{name}" for recipe, name in NODES]


def read_node(recipe: Path, name: str) -> tuple[dict[str, Any], str, list[str]]:
    """Return a node of a recipe's graph, the module that it runs, and its arguments."""
    node = read_yaml(recipe / "dvc.yaml")["stages"][name]
    python, flag, module, *arguments = shlex.split(node["cmd"])
    assert [python, flag] == ["python", "-m"]
    if module == "pipeline":
        module = f"pipeline.{arguments.pop(0)}.stage"
    return node, module, arguments


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", "model", "assistant", cache_dir=None)


def test_every_optional_stage_has_a_recipe() -> None:
    assert {"answers", "sentiment", "summaries"} <= {recipe.name for recipe in RECIPES}
    used = {read_node(recipe, name)[1].split(".")[1] for recipe, name in NODES}
    assert set(OPTIONAL_STAGES) <= used


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_a_folder_of_three_files_with_the_sections_it_uses(recipe: Path) -> None:
    assert {path.name for path in recipe.iterdir()} - {"dvc.lock"} == {"dvc.yaml", "params.yaml", "README.md"}
    page = (recipe / "README.md").read_text(encoding="utf-8")
    assert f"dvc repro docs/recipes/{recipe.name}/dvc.yaml" in page
    values = read_yaml(recipe / "params.yaml")
    modules = [read_node(recipe, name)[1] for at, name in NODES if at == recipe]
    stages = {module.split(".")[1] for module in modules if module.endswith(".stage")}
    assert set(values) == stages <= {*STAGES, *OPTIONAL_STAGES}
    for stage in stages:
        check_stage_params(values, stage)


@pytest.mark.parametrize(("recipe", "name"), NODES, ids=IDS)
def test_a_node_runs_in_the_root_and_writes_into_the_folder_of_the_recipe(recipe: Path, name: str) -> None:
    node, module, arguments = read_node(recipe, name)
    folder = f"data/recipes/{recipe.name}"
    values = dict(itertools.pairwise(arguments))
    assert node["wdir"] == "../../.."
    assert values["--out"] == f"{folder}/{name}"
    if not module.endswith(".stage"):
        assert module.removesuffix(".__main__") in MODULES
        assert node["outs"] == [{f"{folder}/{name}": {"cache": False}}]
        return
    metrics = f"{folder}/metrics/{name}.json"
    params = f"docs/recipes/{recipe.name}/params.yaml"
    assert (values["--metrics"], values["--params"]) == (metrics, params)
    # Not cached: `dvc pull` and `dvc commit` fail for the whole folder where a cached output was never made.
    assert node["outs"] == [{f"{folder}/{name}": {"cache": False}}, {metrics: {"cache": False}}]
    assert node["params"] == [{params: [module.split(".")[1]]}]


@pytest.mark.parametrize(("recipe", "name"), NODES, ids=IDS)
def test_the_flags_of_a_node_are_inputs_of_its_stage_and_its_dependencies(recipe: Path, name: str) -> None:
    node, module, arguments = read_node(recipe, name)
    if not module.endswith(".stage"):
        return
    inputs = list_inputs(importlib.import_module(module).run)
    given = {
        flag.removeprefix("--").replace("-", "_"): path
        for flag, path in itertools.pairwise(arguments)
        if flag.startswith("--") and flag not in ("--params", "--out", "--metrics")
    }
    assert {flag for flag, is_required in inputs.items() if is_required} <= given.keys() <= inputs.keys()
    for path in given.values():
        assert any(dep == path or path.startswith(dep + "/") for dep in node["deps"]), path


@pytest.mark.parametrize(("recipe", "name"), NODES, ids=IDS)
def test_the_rooms_that_a_node_lists_are_the_rooms_it_imports(
    recipe: Path, name: str, graph: grimp.ImportGraph
) -> None:
    node, module, _ = read_node(recipe, name)
    if not module.endswith(".stage"):
        return  # a command about the registry changes nothing that its code computes
    reached = sorted(room.replace(".", "/") for room in find_rooms(graph, module))
    listed = [dep for dep in node["deps"] if not dep.startswith(NO_CODE)]
    assert listed == reached, "expected deps:\n" + "\n".join(f"      - {room}" for room in reached)


def test_the_lock_of_a_recipe_is_not_ignored() -> None:
    """Check what DVC refuses: with an ignored dvc.lock anywhere, `dvc status` and `dvc metrics show` fail for the whole folder."""
    locks = [str(recipe / "dvc.lock") for recipe in RECIPES]
    ignored = subprocess.run(["git", "check-ignore", "--no-index", *locks], cwd=ROOT, capture_output=True, text=True)
    assert locks
    assert ignored.stdout == ""
