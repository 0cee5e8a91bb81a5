"""Read templates of requests, and draw wordings from them.

In: YAML files of themes (data/seed/guard): a name, a category, and fields of templates, one per line, in which `{a|b}` is a choice
and `{|a}` may be left out. Out: drawn texts. Each choice takes its alternatives in turn, in an order of its own, so that a few
draws use all of them. Pure, but for reading the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from model.guard.categories import CATEGORIES
from pipeline.frame.errors import UserError
from pipeline.frame.settings import read_yaml

FIELDS = ("deeds", "pieces", "whole", "passages")
HARMLESS = "harmless_"
PHRASINGS = "phrasings.yaml"
_CHOICE = re.compile(r"\{([^{}]*)\}")


class Theme(NamedTuple):
    """What one theme asks for by field, and harmless requests of the same shape. `category` is empty: only harmless ones."""

    name: str
    category: str
    harmful: Mapping[str, tuple[str, ...]]
    harmless: Mapping[str, tuple[str, ...]]


class TemplateDraws:
    """Draws texts from templates: each template as often as its number of choices asks for, each alternative in turn."""

    def __init__(self, templates: tuple[str, ...], rng: Random) -> None:
        self._rng = rng
        self._parts = [split_choices(template) for template in templates]
        self._weights = [float(sum(len(part) for part in parts)) for parts in self._parts]
        self._queues: dict[tuple[int, int], list[str]] = {}

    def draw(self) -> str:
        """Return the next text."""
        index = self._rng.choices(range(len(self._parts)), self._weights)[0]
        words = "".join(self._take(index, at, part) for at, part in enumerate(self._parts[index]))
        return re.sub(r"\s+([.,?!])", r"\1", " ".join(words.split()))

    def _take(self, index: int, at: int, part: tuple[str, ...]) -> str:
        if len(part) == 1:
            return part[0]
        queue = self._queues.setdefault((index, at), [])
        if not queue:
            queue += self._rng.sample(part, len(part))
        return queue.pop()


def split_choices(template: str) -> list[tuple[str, ...]]:
    """Return the parts of a template: alternatives, or the one text between choices."""
    pieces = _CHOICE.split(template)
    parts = [tuple(piece.split("|")) if at % 2 else (piece,) for at, piece in enumerate(pieces) if piece or at % 2]
    return [tuple(dict.fromkeys(part)) if len(set(part)) > 2 else part for part in parts]


def read_themes(folder: Path) -> list[Theme]:
    """Return the themes of all files but the phrasings, by name. Raises: `UserError` that names what is wrong in which file."""
    themes: dict[str, Theme] = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name == PHRASINGS:
            continue
        content = read_yaml(path)
        if not isinstance(content, list):
            raise UserError(f"{path}: not a list of themes", type(content).__name__, "begin each theme with `- theme:`")
        for number, entry in enumerate(content, 1):
            theme = _read_theme(entry, f"{path}: theme {number}")
            if theme.name in themes:
                raise UserError(f"{path}: theme {number}", f"another theme {theme.name!r}", "give it another name")
            themes[theme.name] = theme
    if not themes:
        raise UserError(f"{folder}: no themes", "no YAML file with one", "restore data/seed/guard")
    return [themes[name] for name in sorted(themes)]


def _read_theme(entry: Any, position: str) -> Theme:
    known = {"theme", "category", *FIELDS, *(HARMLESS + field for field in FIELDS)}
    if not isinstance(entry, dict) or not isinstance(entry.get("theme"), str) or set(entry) - known:
        unknown = sorted(map(str, set(entry) - known)) if isinstance(entry, dict) else [type(entry).__name__]
        raise UserError(position, f"{', '.join(unknown)[:80] or 'no name'}", f"use {', '.join(sorted(known))}")
    category = entry.get("category", "")
    if category and category not in CATEGORIES:
        raise UserError(f"{position}.category", repr(category)[:80], f"use one of {', '.join(CATEGORIES)}")
    lines = {name: tuple(_list_lines(entry[name])) for name in entry if name not in ("theme", "category")}
    if not category:  # everything in it is harmless
        return Theme(entry["theme"], "", {}, {name: lines[name] for name in FIELDS if name in lines})
    harmful = {name: lines[name] for name in FIELDS if name in lines}
    return Theme(
        entry["theme"], category, harmful, {name: lines[HARMLESS + name] for name in FIELDS if HARMLESS + name in lines}
    )


def _list_lines(text: Any) -> Iterator[str]:
    for line in str(text).splitlines():
        if line.strip():
            yield line.strip()


def read_phrasings(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the phrasings by field. Raises: `UserError` for a missing one."""
    content = read_yaml(folder / PHRASINGS)
    needed = ("deeds", "deeds_heldout", "pieces", "pieces_heldout", "whole", "frames")
    missing = [name for name in needed if not isinstance(content, dict) or not content.get(name)]
    if missing:
        raise UserError(f"{folder / PHRASINGS}: a field is missing", ", ".join(missing), "restore data/seed/guard")
    return {name: tuple(_list_lines(content[name])) for name in needed}
