"""The order of the stages, from dvc.yaml: the graph is written there and nowhere else.

In: dvc.yaml. Out: stage names so that each comes after what it needs, and who needs whom.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML, YAMLError


class GraphError(ValueError):
    """dvc.yaml can't be read as a graph."""


def read_graph(path: Path) -> dict[str, set[str]]:
    """Stage → the stages it needs, in an order that can be run. Raises: `GraphError`, saying what to mend."""
    try:
        stages: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError as error:
        raise GraphError(f"{path}: no such file\n  to do: run in the repository's root") from error
    except (YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise GraphError(
            f"{path}: not a DVC pipeline\n  found: {error}\n  to do: mend it; `dvc dag` must work"
        ) from error
    made = {
        out: stage
        for stage, entry in stages.items()
        for kind in ("outs", "metrics", "plots")
        for out in _paths(entry, kind)
    }
    needs = {
        stage: {maker for out, maker in made.items() for dep in _paths(entry, "deps") if _overlaps(dep, out)} - {stage}
        for stage, entry in stages.items()
    }
    try:
        return {stage: needs[stage] for stage in TopologicalSorter(needs).static_order()}
    except CycleError as error:
        raise GraphError(
            f"{path}: a circle of stages\n  found: {' → '.join(error.args[1])}\n  to do: break it"
        ) from error


def _paths(entry: dict[str, Any], kind: str) -> list[PurePosixPath]:
    """`- path` or `- path: {cache: false}`."""
    return [PurePosixPath(item if isinstance(item, str) else next(iter(item))) for item in entry.get(kind, [])]


def _overlaps(dep: PurePosixPath, out: PurePosixPath) -> bool:
    return dep == out or out in dep.parents or dep in out.parents
