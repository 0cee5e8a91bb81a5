"""Read the order of the stages from dvc.yaml, which is the only definition of the graph.

In: dvc.yaml. Out: stage names in topological order, each with the stages that it depends on.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML, YAMLError


class GraphError(ValueError):
    """dvc.yaml can't be read as a graph."""


def read_graph(path: Path) -> dict[str, set[str]]:
    """Return the dependencies of each stage, in topological order. Raises `GraphError` for an invalid file or a cycle."""
    stages = _read_stages(path)
    producers = {
        out: stage
        for stage, entry in stages.items()
        for kind in ("outs", "metrics", "plots")
        for out in _list_paths(entry, kind)
    }
    needs = {
        stage: {
            producer for out, producer in producers.items() for dep in _list_paths(entry, "deps") if _overlaps(dep, out)
        }
        - {stage}
        for stage, entry in stages.items()
    }
    try:
        return {stage: needs[stage] for stage in TopologicalSorter(needs).static_order()}
    except CycleError as error:
        raise GraphError(
            f"{path}: a cycle of stages\n  found: {' → '.join(error.args[1])}\n  to do: remove a dependency"
        ) from error


def list_inputs(path: Path) -> list[PurePosixPath]:
    """Return what stages read and no stage writes. Raises `GraphError` for an invalid file."""
    stages = _read_stages(path)
    outs = [
        out for entry in stages.values() for kind in ("outs", "metrics", "plots") for out in _list_paths(entry, kind)
    ]
    deps = dict.fromkeys(dep for entry in stages.values() for dep in _list_paths(entry, "deps"))
    return [dep for dep in deps if not any(dep == out or out in dep.parents for out in outs)]


def _read_stages(path: Path) -> dict[str, Any]:
    try:
        stages: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["stages"]
        return {stage: dict(entry) for stage, entry in stages.items()}
    except FileNotFoundError as error:
        raise GraphError(f"{path}: no such file\n  found: no graph\n  to do: run in the repository's root") from error
    except (YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise GraphError(
            f"{path}: not a DVC pipeline\n  found: {error}\n  to do: fix it until `dvc dag` works"
        ) from error


def _list_paths(entry: dict[str, Any], kind: str) -> list[PurePosixPath]:
    """Return the paths of an entry, written as `- path` or `- path: {cache: false}`."""
    return [PurePosixPath(item if isinstance(item, str) else next(iter(item))) for item in entry.get(kind, [])]


def _overlaps(dep: PurePosixPath, out: PurePosixPath) -> bool:
    return dep == out or out in dep.parents or dep in out.parents
