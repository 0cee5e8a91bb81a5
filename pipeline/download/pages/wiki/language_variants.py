"""Choose one variant of the language conversion marks `-{…}-` of a wiki.

In: the wikitext of a page and the language of its wiki. Out: wikitext without marks: of `-{zh-cn:软件;zh-tw:軟體}-` one
alternative, in the script that the rest of the page is mostly written in; `-{text}-` and `-{R|text}-` give the text; rules for
other places (flags `H`, `T`, `-`) and names of variants (`N`) give nothing. Marks may be nested. Wikis without variants are left
as they are, and so are formulas, code and comments, in which `-{` is no mark. Does not cover: conversion of the text outside of
marks. Time: O(n).
"""

from __future__ import annotations

import re
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple


class Script(NamedTuple):
    """A script of a language: frequent characters that only it has, and the variants from the best to the worst."""

    sample: str
    variants: tuple[str, ...]


def _make_scripts(language: str, **variants: str) -> tuple[Script, ...]:
    """Return the scripts, each with its own variants first, then the language itself, then the variants of the others."""
    own = {script: tuple(f"{language}-{name}" for name in names.split()) for script, names in variants.items()}
    every = [name for names in own.values() for name in names]
    return tuple(Script(SAMPLES[script], (*names, language, *every)) for script, names in own.items())


SAMPLES = {
    "hans": "这国为们来对时会说学发还书长门问关东车马电机",
    "hant": "這國為們來對時會說學發還書長門問關東車馬電機",
    "cyrl": "аеионртсдл",
    "latn": "aeionrtsdl",
    "arab": "اينەرتسدلی",
    "cans": "ᐃᐅᐊᓂᓄᓇᑎᑐᑕᒃ",
    "tfng": "ⴰⵉⵏⵜⵙⴷⵍⵔⵓⵎ",
}
LANGUAGES = {
    "zh": _make_scripts("zh", hans="cn hans sg my", hant="tw hant hk mo"),
    "gan": _make_scripts("gan", hans="hans", hant="hant"),
    "wuu": _make_scripts("wuu", hans="hans", hant="hant"),
    "sr": _make_scripts("sr", cyrl="ec cyrl", latn="el latn"),
    "sh": _make_scripts("sh", latn="latn", cyrl="cyrl"),
    "kk": _make_scripts("kk", cyrl="cyrl kz", latn="latn tr", arab="arab cn"),
    "ku": _make_scripts("ku", latn="latn", arab="arab"),
    "uz": _make_scripts("uz", latn="latn", cyrl="cyrl"),
    "crh": _make_scripts("crh", latn="latn", cyrl="cyrl"),
    "tg": _make_scripts("tg", cyrl="cyrl", latn="latn"),
    "tly": _make_scripts("tly", latn="latn", cyrl="cyrl"),
    "shi": _make_scripts("shi", tfng="tfng", latn="latn"),
    "iu": _make_scripts("ike", cans="cans", latn="latn"),
}
HIDDEN_FLAGS = frozenset("HT-N")
FLAGS = HIDDEN_FLAGS | frozenset("ARDS+")
CODE = rf"(?:{'|'.join(sorted({scripts[0].variants[-1].partition('-')[0] for scripts in LANGUAGES.values()}))})(?:-[a-z]+)*"
VARIANT = re.compile(CODE)
RULE = re.compile(rf"(?:[^;:]*=>\s*)?({CODE})\s*:(.*)", re.DOTALL)
BETWEEN_RULES = re.compile(rf";(?=\s*(?:[^;:\s][^;:]*=>\s*)?{CODE}\s*:)")
ENTITY = re.compile(r"&#?\w+;\Z")
SIMPLE_MARK = re.compile(r"-\{[^{}]*\}-")
TOKEN = re.compile(
    r"<!--|<(?P<tag>math|chem|ce|nowiki|pre|code|syntaxhighlight|source|score)\b[^<>]{0,500}(?<!/)>"
    r"|(?P<open>-\{(?!\{)|-\{(?=\{\{[^{]))|\{\{|\}\}|(?P<close>\}-)",
    re.IGNORECASE,
)
LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)  # keeps the length, unlike `lower`
MAX_DEPTH = 10


class _Mark(NamedTuple):
    """An open mark: the pieces before it, and how many templates were open inside the mark around it."""

    outside: list[str]
    n_templates: int


def choose_variants(wikitext: str, language: str) -> str:
    """Return the wikitext without conversion marks."""
    if "-{" not in wikitext or language not in LANGUAGES:
        return wikitext
    scripts = LANGUAGES[language]
    outside = SIMPLE_MARK.sub("", wikitext)
    counts = [sum(map(outside.count, script.sample)) for script in scripts]
    return _Chooser(scripts[counts.index(max(counts))].variants).replace_marks(wikitext)


class _Chooser:
    """One pass over a page: the pieces so far, and the open marks."""

    def __init__(self, variants: tuple[str, ...]) -> None:
        self.variants = variants
        self.pieces: list[str] = []
        self.open: list[_Mark] = []
        self.n_templates = 0

    def replace_marks(self, wikitext: str) -> str:
        """Return the text without marks; unclosed ones stay as they were typed."""
        lower = wikitext.translate(LOWER)
        start = at = 0
        unclosed: set[str] = set()
        while token := TOKEN.search(wikitext, at):
            at = token.end()
            literal = "-->" if token[0] == "<!--" else f"</{token['tag'].lower()}" if token["tag"] else ""
            if literal and literal not in unclosed:
                end = lower.find(literal, at)
                at = end + len(literal) if end >= 0 else at
                unclosed.update((literal,) if end < 0 else ())
            elif not literal:
                self.pieces.append(wikitext[start : token.start()])
                self._read(token)
                start = at
        self.pieces.append(wikitext[start:])
        while self.open:
            inside, mark = "".join(self.pieces), self.open.pop()
            self.pieces = [*mark.outside, "-{", inside]
        return "".join(self.pieces)

    def _read(self, token: re.Match[str]) -> None:
        if token["open"] and len(self.open) < MAX_DEPTH:
            self.open.append(_Mark(self.pieces, self.n_templates))
            self.pieces, self.n_templates = [], 0
        elif token["close"] and self.open:
            inside = "".join(self.pieces)
            self.pieces, self.n_templates = self.open.pop()
            self.pieces.append(_choose(inside, self.variants))
        else:
            self.n_templates += (token[0] == "{{") - (token[0] == "}}")
            self.pieces.append(token[0])


def _choose(inside: str, variants: tuple[str, ...]) -> str:
    """Return the visible text of one mark."""
    head, bar, rest = inside.partition("|")
    flags = {flag.strip() for flag in head.split(";")} - {""}
    if bar and all(flag in FLAGS or VARIANT.fullmatch(flag) for flag in flags):
        inside = rest
        if flags & HIDDEN_FLAGS:
            return ""
        if "R" in flags:
            return inside
    texts: dict[str, str] = {}
    for part in BETWEEN_RULES.split(inside):
        rule = RULE.fullmatch(part.strip())
        if not rule:
            return inside
        text = rule[2].strip()
        texts.setdefault(rule[1], text if ENTITY.search(text) else text.removesuffix(";").rstrip())
    return next((texts[variant] for variant in variants if variant in texts), next(iter(texts.values())))
