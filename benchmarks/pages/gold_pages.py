"""Read public collections of web pages whose main text is known, and score extracted texts as each collection's own script does.

In: a folder as its authors publish it. Out: pages with their gold, and F1, precision and recall. Known are scrapinghub's
article-extraction-benchmark (shingles of four words), Mozilla readability's test-pages (the same measure, against the text of
expected.html), trafilatura's tests (snippets that must and must not occur), and one split of WCXB (words).
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import md5
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from resiliparse.extract.html2text import extract_plain_text

from pipeline.frame.errors import UserError

WORD = re.compile(r"\w+")
Tokens = Counter[Any]


class GoldPage(NamedTuple):
    """A page, and its main text or the snippets that must and must not occur in it."""

    name: str
    body: bytes
    text: str
    needed: Sequence[str] = ()
    forbidden: Sequence[str] = ()
    kind: str = ""


class GoldSet(NamedTuple):
    """A collection of pages with its measure: F1, precision and recall of the texts."""

    pages: list[GoldPage]
    measure: Callable[[Sequence[GoldPage], Sequence[str]], tuple[float, float, float]]


def read_gold(folder: Path) -> GoldSet:
    """Read a collection. Raises: `UserError` if the folder holds none that is known."""
    if (folder / "ground-truth.json").is_file():
        return GoldSet(_read_articles(folder), measure_shingles)
    if (folder / "evaldata.json").is_file():
        return GoldSet(_read_snippets(folder), measure_snippets)
    if (folder / "ground-truth").is_dir():
        return GoldSet(_read_wcxb(folder), measure_words)
    if any(folder.glob("*/expected.html")):
        return GoldSet(_read_readability(folder), measure_shingles)
    todo = "pass a folder with ground-truth.json, evaldata.json, ground-truth/ or */expected.html"
    raise UserError("gold pages: an unknown collection", f"no known file in {folder}", todo)


def _read_articles(folder: Path) -> list[GoldPage]:
    gold = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    pages = ((name, folder / "html" / f"{name}.html.gz") for name in sorted(gold))
    return [GoldPage(name, gzip.decompress(path.read_bytes()), gold[name]["articleBody"]) for name, path in pages]


def _read_readability(folder: Path) -> list[GoldPage]:
    pages: list[GoldPage] = []
    for path in sorted(folder.glob("*/expected.html")):
        expected = path.read_text(encoding="utf-8")
        text = extract_plain_text(expected, main_content=False, alt_texts=False, list_bullets=False)
        pages.append(GoldPage(path.parent.name, path.with_name("source.html").read_bytes(), text))
    return pages


def _read_snippets(folder: Path) -> list[GoldPage]:
    gold = json.loads((folder / "evaldata.json").read_text(encoding="utf-8"))
    pages: list[GoldPage] = []
    for url, entry in sorted(gold.items()):
        paths = (folder / room / entry["file"] for room in ("cache", "eval"))
        body = next(path for path in paths if path.is_file()).read_bytes()
        pages.append(GoldPage(url, body, "", entry["with"], entry["without"]))
    return pages


def _read_wcxb(folder: Path) -> list[GoldPage]:
    pages: list[GoldPage] = []
    for path in sorted((folder / "ground-truth").glob("*.json")):
        gold = json.loads(path.read_text(encoding="utf-8"))
        body = gzip.decompress((folder / "html" / f"{path.stem}.html.gz").read_bytes())
        text = gold["ground_truth"].get("main_content") or ""
        pages.append(GoldPage(path.stem, body, text, kind=gold["_internal"]["page_type"]["primary"]))
    return pages


def is_held_out(name: str) -> bool:
    """Return whether a page belongs to the half on which nothing was tuned."""
    return int(md5(name.encode()).hexdigest(), 16) % 2 == 1


def measure_shingles(pages: Sequence[GoldPage], texts: Sequence[str]) -> tuple[float, float, float]:
    """Compare sequences of four words: the mean precision of pages with a text, the mean recall of pages with gold."""
    pairs = [(_shingle(page.text), _shingle(text)) for page, text in zip(pages, texts, strict=True)]
    precision = fmean(_count(gold & found) / _count(found) for gold, found in pairs if found)
    recall = fmean(_count(gold & found) / _count(gold) for gold, found in pairs if gold)
    return 2 * precision * recall / (precision + recall), precision, recall


def measure_words(pages: Sequence[GoldPage], texts: Sequence[str]) -> tuple[float, float, float]:
    """Compare words without their order: the means over all pages."""
    rows: list[tuple[float, float, float]] = []
    for page, text in zip(pages, texts, strict=True):
        gold, found = Counter(WORD.findall(page.text.lower())), Counter(WORD.findall(text.lower()))
        both = _count(gold & found)
        precision = both / _count(found) if found else float(not gold)
        recall = both / _count(gold) if gold else float(not found)
        rows.append((2 * precision * recall / ((precision + recall) or 1), precision, recall))
    f1, precision, recall = (fmean(column) for column in zip(*rows, strict=True))
    return f1, precision, recall


def measure_snippets(pages: Sequence[GoldPage], texts: Sequence[str]) -> tuple[float, float, float]:
    """Count needed and forbidden snippets over all pages."""
    n_kept = n_wrong = 0
    for page, text in zip(pages, texts, strict=True):
        flat = " ".join(text.split())
        n_kept += _count_inside(page.needed, flat)
        n_wrong += _count_inside(page.forbidden, flat)
    precision, recall = n_kept / ((n_kept + n_wrong) or 1), n_kept / (sum(len(page.needed) for page in pages) or 1)
    return 2 * precision * recall / ((precision + recall) or 1), precision, recall


def _shingle(text: str) -> Tokens:
    words = WORD.findall(text)
    return Counter(tuple(words[at : at + 4]) for at in range(max(1, len(words) - 3)) if words)


def _count(tokens: Tokens) -> int:
    return sum(tokens.values())


def _count_inside(snippets: Iterable[str], text: str) -> int:
    return sum(" ".join(snippet.split()) in text for snippet in snippets)
