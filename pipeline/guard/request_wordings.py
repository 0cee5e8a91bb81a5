"""Make wordings of requests: harm × object × phrasing, and harmless ones of the same shape.

In: themes and phrasings (theme_templates.py), and the number of wordings. Out: distinct texts with category and theme, half of them
harmful; a theme has as many as its templates have alternatives to use. Harmful and harmless ones take the same phrasings. The same
seed gives the same texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from pipeline.guard.theme_templates import TemplateDraws, Theme, split_choices

TRIES = 20  # per wording, before a small theme is exhausted
# Verbs whose last consonant is doubled in a gerund.
DOUBLED = frozenset(
    "hit cut put run get set stab rob rig fit win plan skim trap plug dig hog tap scam con log drop stop split".split()  # noqa: SIM905
)
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)


class Wording(NamedTuple):
    """A text, what it asks for (empty: nothing harmful), its theme, and whether its phrasing is one that is held out."""

    text: str
    category: str
    theme: str
    is_new_phrasing: bool = False


def make_wordings(
    themes: Sequence[Theme], phrasings: Mapping[str, tuple[str, ...]], n: int, frame_frac: float, seed: int
) -> list[Wording]:
    """Return about `n` distinct wordings in the order of themes."""
    seen: set[str] = set()
    wordings: list[Wording] = []
    sides = [(theme, side) for theme in themes for side in (theme.harmful, theme.harmless) if side]
    sizes = [count_alternatives(side) for _, side in sides]
    totals = [sum(size for (theme, side), size in zip(sides, sizes, strict=True) if (side is theme.harmful) == is_harmful)
              for is_harmful in (False, True)]  # fmt: skip
    for (theme, side), size in zip(sides, sizes, strict=True):
        is_harmful = side is theme.harmful
        rng = Random(f"{seed} {theme.name} {is_harmful}")
        share = round(n / 2 * size / totals[is_harmful])
        category = theme.category if is_harmful else ""
        wordings += _draw_side(side, category, theme.name, share, phrasings, frame_frac, rng, seen)
    return wordings


def count_alternatives(fields: Mapping[str, tuple[str, ...]]) -> int:
    """Return the number of alternatives of all choices."""
    parts = [part for templates in fields.values() for template in templates for part in split_choices(template)]
    return sum(len(part) for part in parts)


def _draw_side(
    fields: Mapping[str, tuple[str, ...]],
    category: str,
    theme: str,
    n: int,
    phrasings: Mapping[str, tuple[str, ...]],
    frame_frac: float,
    rng: Random,
    seen: set[str],
) -> list[Wording]:
    """Return at most `n` new wordings of one side of a theme."""
    if not fields:
        return []
    draws = {name: TemplateDraws(templates, rng) for name, templates in fields.items()}
    weights = [len(" ".join(templates)) for templates in fields.values()]
    out: list[Wording] = []
    for _ in range(n * TRIES):
        if len(out) == n:
            break
        field = rng.choices(list(fields), weights)[0]
        is_new = rng.random() < 0.15
        text = phrase(field, draws[field].draw(), phrasings, rng, is_new=is_new)
        if rng.random() < frame_frac:
            text = rng.choice(phrasings["frames"]).replace("{w}", text)
        if text not in seen:
            seen.add(text)
            out.append(Wording(text, category, theme, is_new and field in ("deeds", "pieces")))
    return out


def phrase(field: str, content: str, phrasings: Mapping[str, tuple[str, ...]], rng: Random, *, is_new: bool) -> str:
    """Return a request around a deed, a piece of text, or a whole sentence."""
    if field == "passages":
        return content
    if field == "whole":
        return rng.choice(phrasings["whole"]).replace("{w}", content)
    name = f"{field}_heldout" if is_new else field
    form = rng.choice(phrasings[name])
    return form.replace("{xing}", make_gerund(content)).replace("{x}", content).replace("{p}", content)


def make_gerund(deed: str) -> str:
    """Return a deed with its first verb as a gerund: `build a kite` is `building a kite`."""
    match = _WORD.match(deed)
    if match is None:
        return deed
    verb = match[0]
    if verb.endswith("ie"):
        stem = verb[:-2] + "y"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and len(verb) > 2:
        stem = verb[:-1]
    else:
        stem = verb + (verb[-1] if verb in DOUBLED else "")
    return f"{stem}ing{deed[match.end() :]}"
