"""Find the files of a local source, and refuse what DVC would not see: folders behind links that lead out of data/raw.

DVC watches data/raw, and reads links to files in it, but not what is behind a link to a folder, unless the link is a dependency of
its own. In: a path, folder or glob. Out: its files. A workspace without dvc.yaml, and paths elsewhere, have no such check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.frame.errors import UserError
from pipeline.storage.files import FoundFile, LinkedFileSystem, find_files

RAW = Path("data/raw")
GRAPH = Path("dvc.yaml")


def find_source_files(path: str, setting: str) -> tuple[Any, list[FoundFile], int]:
    """Return file system, files and number of hidden files, as `find_files` does. Raises `UserError` for an unwatched link."""
    system, files, n_hidden = find_files(path, setting)
    if isinstance(system, LinkedFileSystem) and GRAPH.exists():
        links = dict.fromkeys(find_links(file.path for file in files))
        if links and (unwatched := [link for link in links if not _is_watched(link, _read_deps())]):
            _refuse(unwatched, setting)
    return system, files, n_hidden


def find_links(paths: Iterable[str]) -> Iterator[Path]:
    """Yield the links to folders on these paths, below data/raw, that lead out of it."""
    raw = RAW.absolute()
    inside = raw.resolve()

    @cache
    def find(folder: Path) -> tuple[Path, ...]:
        if folder == raw or raw not in folder.parents:
            return ()
        above = find(folder.parent)
        leads_out = folder.is_symlink() and not folder.resolve().is_relative_to(inside)
        return (*above, folder) if leads_out else above

    for folder in dict.fromkeys(Path(path).parent for path in paths):
        yield from find(folder)


def _read_deps() -> list[Path]:
    """Return the dependencies of the stage `download`."""
    graph: Any = YAML(typ="safe", pure=True).load(GRAPH.read_text(encoding="utf-8"))
    deps = ((graph or {}).get("stages") or {}).get("download", {}).get("deps", [])
    return [Path(dep if isinstance(dep, str) else next(iter(dep))).absolute() for dep in deps]


def _is_watched(link: Path, deps: list[Path]) -> bool:
    target = link.resolve()
    return any(dep == link or (not dep.is_symlink() and target.is_relative_to(dep.resolve())) for dep in deps)


def _refuse(links: list[Path], setting: str) -> None:
    here = Path.cwd()
    shown = ", ".join(f"{link.relative_to(here)} → {link.resolve()}" for link in links[:3])
    first, target = links[0].relative_to(here), links[0].resolve()
    raise UserError(
        f"{setting}: leads through a link to a folder that DVC does not watch",
        shown + (" …" if len(links) > 3 else ""),
        f"add `- {first}` to the deps of download in dvc.yaml, so that DVC watches it; or replace the link by links to its "
        f"files (rm {first} && cp -rs {target} {first}), or by a copy",
    )
