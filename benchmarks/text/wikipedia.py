"""A Wikipedia dump to documents: the reader `wikipedia` against mwxml and mwparserfromhell's `strip_code`, on one core.

The dump is made here: articles with infoboxes, references, tables, links, lists, files and categories, as many redirects, and
talk pages, compressed with bzip2; `--dump FILE` reads a real one instead. Both skip redirects and other namespaces and return
the same titles. The texts differ on purpose: ours drops tables, files, categories and references, of which `strip_code` keeps
parts, and keeps list markers and formulas.
"""

from __future__ import annotations

import bz2
import random
import tempfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import mwparserfromhell
import mwxml

from benchmarks.measure import Result, Work, compare
from benchmarks.text.generated import make_random_words
from pipeline.download.params import Wikipedia
from pipeline.download.readers.wikipedia import open_source

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en"><siteinfo>'
    "<sitename>Made</sitename><dbname>made</dbname><base>https://made.example/wiki/Main_Page</base>"
    "<generator>MediaWiki 1.42</generator><case>first-letter</case>"
    '<namespaces><namespace key="0" case="first-letter" /><namespace key="1" case="first-letter">Talk</namespace>'
    '<namespace key="6" case="first-letter">File</namespace><namespace key="14" case="first-letter">Category</namespace>'
    "</namespaces></siteinfo>\n"
)


def run(*, n_articles: int = 60, dump: Path | None = None) -> Result:
    """Return megabytes of wikitext per second. Raises: `UserError` if the titles differ."""
    with tempfile.TemporaryDirectory() as folder:
        path = dump or Path(folder, "pages.xml.bz2")
        if dump is None:
            path.write_bytes(bz2.compress(make_dump(n_articles).encode()))
        params = Wikipedia(kind="wikipedia", name="bench", path=str(path))
        expected, n_bytes = read_with_peer(path)

        def ours() -> list[str]:
            batches = open_source(params, "bench").batches
            return [document.title for batch in batches for document in batch.docs]

        def peer() -> list[str]:
            return [title for title, text in read_with_peer(path)[0] if text]

        work = f"{len(expected)} articles, {n_bytes / 1e6:.1f} MB of wikitext, {path.name}"
        return compare(Work(work, "MB/s", n_bytes / 1e6, "mwxml + mwparserfromhell strip_code"), ours, peer)


def read_with_peer(path: Path) -> tuple[list[tuple[str, str]], int]:
    """Return title and text of each article, read as the libraries' documentation shows, and the bytes of wikitext."""
    found: list[tuple[str, str]] = []
    n_bytes = 0
    with (bz2.open if path.suffix == ".bz2" else open)(path, "rb") as file:
        pages: Any = mwxml.Dump.from_file(file)
        for page in pages:
            if page.namespace or page.redirect:
                continue
            text = [revision.text or "" for revision in page][-1]
            found.append((page.title, str(mwparserfromhell.parse(text).strip_code())))
            n_bytes += len(text.encode())
    return found, n_bytes


def make_dump(n_articles: int) -> str:
    """Return a dump of `n_articles` articles, as many redirects and half as many talk pages."""
    rng = random.Random(1)
    words = make_random_words(rng, max_chars=11)
    pages: list[str] = []
    for number in range(n_articles):
        pages.append(page(f"Article {number}", 0, 3 * number + 1, article(rng, words)))
        target = f"Article {number}"
        redirect = f'<redirect title="{target}" />'
        pages.append(page(f"Other name {number}", 0, 3 * number + 2, f"#REDIRECT [[{target}]]", redirect))
        if number % 2:
            pages.append(page(f"Talk:{target}", 1, 3 * number + 3, article(rng, words)))
    return HEAD + "".join(pages) + "</mediawiki>\n"


def page(title: str, namespace: int, number: int, text: str, redirect: str = "") -> str:
    """Return one <page> element."""
    return (
        f"<page><title>{title}</title><ns>{namespace}</ns><id>{number}</id>{redirect}<revision><id>{number + 900_000}</id>"
        "<parentid>1</parentid><timestamp>2026-01-01T00:00:00Z</timestamp><contributor><username>A</username><id>1</id></contributor>"
        f'<comment>made</comment><model>wikitext</model><format>text/x-wiki</format><text bytes="{len(text)}" '
        f'xml:space="preserve">{escape(text)}</text><sha1>0</sha1></revision></page>\n'
    )


def article(rng: random.Random, words: list[str]) -> str:
    """Return wikitext with about as much markup as in the English Wikipedia: a token of it for every nine characters."""

    def prose(n_words: int) -> str:
        return " ".join(rng.choices(words, k=n_words))

    def cite() -> str:
        return (
            f"<ref>{{{{cite web|url=https://{rng.choice(words)}.example/{rng.choice(words)}|title={prose(6)}|last={prose(1)}"
            f"|first={prose(1)}|year={rng.randint(1900, 2026)}|access-date=1 May 2026}}}}</ref>"
        )

    def sentence() -> str:
        link = rng.choice(
            (f"[[{prose(2)}]]", f"[[{prose(2)}|{prose(1)}]]", f"''{prose(2)}''", f"'''{prose(1)}'''", prose(3))
        )
        return f"{prose(8).capitalize()} {link} {prose(6)}.{cite() if rng.random() < 0.3 else ''}"

    def table() -> str:
        rows = "".join(f"|-\n| {prose(2)} || [[{prose(1)}]] || align=right | {rng.randint(1, 999)}\n" for _ in range(8))
        return f'{{| class="wikitable sortable"\n|+ {prose(3)}\n! {prose(1)} !! {prose(1)} !! {prose(1)}\n{rows}|}}\n'

    fields = "".join(f"| {rng.choice(words)} = {prose(2)} {{{{nowrap|[[{prose(1)}]]}}}}\n" for _ in range(15))
    parts = [
        f"{{{{Infobox thing\n{fields}}}}}\n'''{prose(2)}''' ({{{{lang|de|{prose(1)}}}}}; born 1900) is {prose(9)}.\n"
    ]
    for number in range(rng.randint(4, 14)):
        parts.append(f"\n== {prose(3).capitalize()} ==\n")
        parts.append(f"[[File:{prose(1)}.jpg|thumb|upright|{prose(5)} [[{prose(1)}]]]]\n" if number % 2 else "")
        parts += [" ".join(sentence() for _ in range(rng.randint(3, 8))) + "\n\n" for _ in range(rng.randint(1, 5))]
        parts.append(
            "".join(f"* [[{prose(2)}]] – {prose(5)} &ndash; {prose(1)}\n" for _ in range(6)) if number % 3 == 0 else ""
        )
        parts.append(table() if number % 4 == 1 else "")
        parts.append(f"<!-- {prose(8)} --><math>x^{number} + y</math> {prose(3)}\n" if number % 5 == 0 else "")
    links = "".join(f"* [https://{rng.choice(words)}.example/ {prose(3)}]\n" for _ in range(5))
    end = f"== References ==\n{{{{reflist}}}}\n== External links ==\n{links}{{{{Authority control}}}}\n"
    return "".join(parts) + end + "".join(f"[[Category:{prose(2)}]]\n" for _ in range(6))
