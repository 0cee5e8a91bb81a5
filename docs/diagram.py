"""Write the diagram of the stages into README.md and docs/architecture.md: `python docs/diagram.py` (a test compares).

In: dvc.yaml, the only place where the graph is written. Out: a Mermaid flowchart between two marker comments. An arrow means that a
stage reads what another one wrote; an arrow that follows from others (download → dedupe → filter) is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/architecture.md")
BEGIN, END = "<!-- diagram: generated from dvc.yaml by docs/diagram.py -->", "<!-- end of diagram -->"
BLOCK = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)


def read_edges(path: Path) -> list[tuple[str, str]]:
    """Return (writer, reader) for each stage that reads an output of another stage, in the order of the graph."""
    stages: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["stages"]
    writer = {
        out: name for name, stage in stages.items() for out in stage["outs"] if isinstance(out, str)
    }  # no metrics
    edges = {
        (writer[out], name)
        for name, stage in stages.items()
        for dep in stage["deps"]
        for out in writer
        if dep == out or dep.startswith(out + "/")
    }
    order = list(stages)
    return sorted(edges, key=lambda edge: (order.index(edge[0]), order.index(edge[1])))


def drop_implied(edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the edges without those that a longer path implies (the transitive reduction)."""
    after: dict[str, set[str]] = {}
    for writer, reader in edges:
        after.setdefault(writer, set()).add(reader)

    def reaches(start: str, goal: str) -> bool:
        return goal in after.get(start, ()) or any(reaches(each, goal) for each in after.get(start, ()))

    return [
        (writer, reader)
        for writer, reader in edges
        if not any(reaches(other, reader) for other in after[writer] - {reader})
    ]


def draw(path: Path = ROOT / "dvc.yaml") -> str:
    """Return the marked block with the Mermaid flowchart of the stages, then publish, gate and promote."""
    edges = drop_implied(read_edges(path))
    lines = [f"    {writer} --> {reader}" for writer, reader in edges]
    last = [reader for _, reader in edges if reader not in {writer for writer, _ in edges}]
    lines += [f"    {name} --> registry([publish, gate, promote])" for name in dict.fromkeys(last)]
    return "\n".join([BEGIN, "", "```mermaid", "flowchart LR", *lines, "```", "", END])


def main() -> None:
    """Rewrite the block in every page that has one."""
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        path.write_text(BLOCK.sub(lambda _: draw(), text), encoding="utf-8")


if __name__ == "__main__":
    main()
