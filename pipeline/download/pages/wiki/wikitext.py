"""Convert wikitext to clean text by folding mwparserfromhell's tokens into the visible text of the page.

In: the wikitext of a page, the language of its wiki, and the wiki's names of files and categories. Out: paragraphs, headings on
lines of their own, list items as `- …` (deeper ones indented), formulas as TeX between dollar signs, code unchanged; common
templates (`{{convert|5|km}}`, dates, currencies, quotations) as the text that they stand for (templates.py), superscripts as `^`
(../superscripts.py), one variant of language conversion (language_variants.py). Left out: other templates (including infoboxes),
tables, references, files, galleries, categories, comments, links to other languages, and headings under which nothing is left.
Time: O(n) for real pages. Memory: a few times the page. The parser is mwparserfromhell's compiled tokenizer; its tree of nodes,
which takes 80 % of its time, is not built: the fold runs over the flat list of tokens. Bold and italic are parsed line by line, as
MediaWiki does: the tokenizer pairs quotes across lines, and a missing one would leave tables and links unparsed.
Does not cover: unclosed markup (it stays as typed).
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mwparserfromhell.parser import ParserError, tokens
from mwparserfromhell.parser._tokenizer import CTokenizer  # pyright: ignore[reportMissingImports]

from pipeline.download.pages.superscripts import (
    REFERENCE,
    SUB,
    SUP,
    has_reference_attribute,
    mark_script,
    render_scripts,
)
from pipeline.download.pages.wiki.language_variants import choose_variants
from pipeline.download.pages.wiki.namespaces import cut_categories, is_hidden_link
from pipeline.download.pages.wiki.templates import find_writer, write_template
from pipeline.download.pages.wiki.unclosed_markup import count_unclosed

HIDDEN_TAGS = frozenset(
    (
        *(
            "ref",
            "references",
            "table",
            "tr",
            "td",
            "th",
            "caption",
            "gallery",
            "imagemap",
            "timeline",
            "score",
            "graph",
        ),
        *("templatedata", "templatestyles", "includeonly", "section", "inputbox", "categorytree", "hiero", "mapframe"),
        *("maplink", "style", "script", "indicator", "img", "link", "meta"),
    )
)
BLOCK_TAGS = frozenset(
    ("p", "div", "blockquote", "center", "poem", "ul", "ol", "dl", "dt", "dd", *(f"h{n}" for n in range(1, 7)))
)
CODE_TAGS = frozenset(("pre", "source", "syntaxhighlight"))
TEX_TAGS = frozenset(("math", "chem", "ce"))
SCRIPT_TAGS = {"sup": SUP, "sub": SUB}
LITERAL_TAGS = TEX_TAGS | {"nowiki"}
BREAKS = frozenset(("br", "hr", "p"))

# Control characters of the folded text, before the layout; XML cannot contain them and `convert_wikitext` removes them.
NOTHING, HEADING, ITEM, VERBATIM = "\x00", "\x01", "\x02", "\x03"
CONTROLS = re.compile("[\x00-\x07]")  # and those of superscripts
ALL_CONTROLS = "\0\1\2\3\4\5\6\7"
SWITCH = re.compile(r"__(?:(?![a-z])[^\W\d_])+(?:_(?:(?![a-z])[^\W\d_])+)*__")  # behavior switches such as __NOTOC__
EMPTY_BRACKETS = re.compile(r" ?\([\s,;:]*\)")  # left by a dropped template, as in `({{lang-de|Haus}})`
OPENED_BRACKET = re.compile(r"\([\s,;]+")
QUOTES = re.compile("('{2,})")
BROKEN_TAG = re.compile(
    r"(</?[A-Za-z]{1,20})[\r\n]\s*(?=(?:[\w-]+\s*=[^<>]{0,500})?/?>)"
)  # the tokenizer wants a space
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*|simple")

MAX_PARSER_STEPS = 20_000_000  # unclosed markup × length: seconds at worst; 5.9 MB of Wikipedia have 491,343 at most
MIN_CHECKED_CHARS = 4_000

_Text, _TemplateOpen, _TemplateClose = tokens.Text, tokens.TemplateOpen, tokens.TemplateClose
_TagOpenOpen, _TagCloseOpen, _TagOpenClose = tokens.TagOpenOpen, tokens.TagCloseOpen, tokens.TagOpenClose
_TagCloseClose, _TagCloseSelfclose = tokens.TagCloseClose, tokens.TagCloseSelfclose


class WikitextError(Exception):
    """Raised when the parser fails, or would take minutes."""


class _Frame(NamedTuple):
    """An open markup element: the pieces collected outside of it, and its attributes."""

    outside: list[str]
    name: str  # of a tag; the title of a link
    level: int = 0  # of a heading; 1: an external link in brackets, or the mark of a reference


class _Call(NamedTuple):
    """An open template that is known: its arguments so far, and the name of the open one."""

    name: str
    arguments: list[tuple[str, str]]
    key: str = ""


def convert_wikitext(wikitext: str, hidden: frozenset[str] = frozenset(), language: str = "") -> str:
    """Return the text of a page of a wiki in this language. Links into the namespaces `hidden` (names in lower case) are left out.

    Raise `WikitextError` where the parser fails, or would take minutes.
    """
    if any(control in wikitext for control in ALL_CONTROLS):
        wikitext = CONTROLS.sub("", wikitext)
    wikitext = choose_variants(cut_categories(wikitext), language)
    wikitext = BROKEN_TAG.sub(r"\1 ", wikitext)
    if _is_slow(wikitext):
        raise WikitextError("too much markup is opened and not closed")
    try:
        parsed = CTokenizer().tokenize(wikitext, 0, True)
    except ParserError as error:
        raise WikitextError(str(error)) from error
    return lay_out(render_scripts(_fold(parsed, hidden, language)))


def _is_slow(wikitext: str) -> bool:
    """Return whether the parser would take minutes; pages that are small or have few openings are not searched."""
    n_chars = len(wikitext)
    n_openings = sum(map(wikitext.count, ("[", "{{", "{|", "<"))) - wikitext.count("[[")
    return (
        n_chars > MIN_CHECKED_CHARS
        and n_openings * n_chars > MAX_PARSER_STEPS
        and count_unclosed(wikitext) * n_chars > MAX_PARSER_STEPS
    )


def _fold(parsed: list[Any], hidden: frozenset[str], language: str) -> str:
    """Return the text of the tokens with control characters, in one pass."""
    fold = _Fold(iter(parsed), hidden, language)
    steps = fold.make_steps()
    for token in fold.tokens:
        kind = type(token)
        if kind is _Text:
            fold.pieces.append(token["text"])
        else:
            steps[kind](token)
    return "".join(fold.pieces)


class _Fold:
    """The state of one pass: the remaining tokens, the collected pieces, and the open elements around them."""

    def __init__(self, remaining: Iterator[Any], hidden: frozenset[str], language: str) -> None:
        self.tokens, self.hidden, self.language = remaining, hidden, language
        self.pieces: list[str] = []
        self.open: list[_Frame] = []
        self.calls: list[_Call] = []

    def make_steps(self) -> dict[type, Callable[[Any], None]]:
        """Return the handler of each kind of token. Handlers that skip an element consume its closing token themselves."""
        return {
            tokens.TemplateOpen: lambda _: self.open_template(),
            tokens.TemplateParamSeparator: lambda _: self.add_argument(),
            tokens.TemplateParamEquals: lambda _: self.set_key(),
            tokens.TemplateClose: lambda _: self.close_template(),
            tokens.CommentStart: lambda _: self.skip(tokens.CommentStart, tokens.CommentEnd),
            tokens.ArgumentOpen: lambda _: self.push(),
            tokens.ArgumentSeparator: lambda _: self.pieces.clear(),  # drop the name, keep the default
            tokens.ArgumentClose: lambda _: self.pop_argument(),
            tokens.WikilinkOpen: lambda _: self.push(),
            tokens.WikilinkSeparator: lambda _: self.set_title(),
            tokens.WikilinkClose: lambda _: self.close_link(),
            tokens.ExternalLinkOpen: lambda token: self.push(level=1 if token.get("brackets") else 0),
            tokens.ExternalLinkSeparator: lambda _: self.set_title(),
            tokens.ExternalLinkClose: lambda _: self.close_external(),
            tokens.HTMLEntityStart: lambda _: self.read_entity(),
            tokens.HeadingStart: lambda token: self.push(level=token["level"]),
            tokens.HeadingEnd: lambda _: self.close_heading(),
            tokens.TagOpenOpen: self.open_tag,
            tokens.TagOpenClose: lambda _: self.close_tag(),
        }

    def push(self, name: str = "", level: int = 0) -> None:
        """Open an element: collect the following pieces separately."""
        self.open.append(_Frame(self.pieces, name, level))
        self.pieces = []

    def pop(self) -> tuple[str, _Frame]:
        """Close the innermost element. Return (text inside, element)."""
        frame, inside = self.open.pop(), "".join(self.pieces)
        self.pieces = frame.outside
        return inside, frame

    def skip(self, opening: type, *closing: type, depth: int = 1) -> None:
        """Skip everything up to the token that closes the markup just opened."""
        for token in self.tokens:
            kind = type(token)
            if kind is opening:
                depth += 1
            elif kind in closing:
                depth -= 1
                if not depth:
                    return

    def open_template(self) -> None:
        """Read the name of a template; collect the arguments of a known one, and skip others."""
        name = ""
        for token in self.tokens:
            kind = type(token)
            if kind is _Text:
                name += token["text"]
            elif kind is _TemplateClose:
                self.pieces.append(write_template(name, (), self.language))
                return
            elif kind is tokens.CommentStart:
                self.skip(tokens.CommentStart, tokens.CommentEnd)
            elif kind is tokens.TemplateParamSeparator and find_writer(name, self.language):
                self.calls.append(_Call(name, []))
                self.push()
                return
            else:
                self.skip(_TemplateOpen, _TemplateClose, depth=2 if kind is _TemplateOpen else 1)
                return

    def add_argument(self) -> None:
        """Close the argument that precedes a separator."""
        call = self.calls[-1]
        call.arguments.append((call.key, "".join(self.pieces)))
        self.calls[-1] = call._replace(key="")
        self.pieces.clear()

    def set_key(self) -> None:
        """Use the pieces so far as the name of the open argument."""
        self.calls[-1] = self.calls[-1]._replace(key="".join(self.pieces))
        self.pieces.clear()

    def close_template(self) -> None:
        self.add_argument()
        self.pop()
        name, arguments, _ = self.calls.pop()
        self.pieces.append(write_template(name, arguments, self.language))

    def pop_argument(self) -> None:
        inside, _ = self.pop()
        self.pieces.append(inside)

    def set_title(self) -> None:
        """Use the pieces so far as the title of the open link."""
        frame = self.open[-1]
        self.open[-1] = frame._replace(name="".join(self.pieces) or " ")
        self.pieces.clear()

    def close_link(self) -> None:
        inside, frame = self.pop()
        if frame.name.startswith("#") and self.open and self.open[-1].name == "sup":
            self.open[-1] = self.open[-1]._replace(level=1)  # a link to a note on the page
        self.pieces.append(_render_link(frame.name, inside, self.hidden))

    def close_external(self) -> None:
        inside, frame = self.pop()
        if frame.name or not frame.level:  # a link in brackets without a label is shown as a number
            self.pieces.append(inside)

    def close_heading(self) -> None:
        inside, frame = self.pop()
        self.pieces.append(f"\n{HEADING}{frame.level}{' '.join(inside.split())}\n")

    def read_entity(self) -> None:
        """Read `&amp;`, `&#65;` or `&#x41;`, which is two to four tokens."""
        name = ""
        for token in self.tokens:
            kind = type(token)
            if kind is tokens.HTMLEntityEnd:
                break
            name += "#" if kind is tokens.HTMLEntityNumeric else token.get("char") or token.get("text") or ""
        self.pieces.append(CONTROLS.sub("", html.unescape(f"&{name};")))

    def open_tag(self, token: Any) -> None:
        name, attributes, is_open = self.read_tag_head()
        markup = token.get("wiki_markup") or ""
        if is_open:
            if name in HIDDEN_TAGS or markup == "{|":
                self.skip(_TagOpenOpen, _TagCloseClose, _TagCloseSelfclose)
            else:
                self.push(name, int(name == "sup" and has_reference_attribute(attributes)))
        elif markup in ("*", "#"):
            self.pieces.append(ITEM)
        elif not markup and name == "li":
            self.pieces.append(f"\n{ITEM}")
        elif markup.startswith("-") or name in BREAKS:
            self.pieces.append("\n")

    def read_tag_head(self) -> tuple[str, str, bool]:
        """Return (name of the tag, the text of its attributes, whether contents follow); tags inside attributes are skipped."""
        name, attributes, depth, has_attributes = "", "", 0, False
        for token in self.tokens:
            kind = type(token)
            if kind is _TagOpenOpen:
                depth += 1
            elif depth:
                depth -= kind in (_TagCloseClose, _TagCloseSelfclose)
            elif kind is _TagCloseOpen:
                return name, attributes, True
            elif kind is _TagCloseSelfclose:
                return name, attributes, False
            elif kind is tokens.TagAttrStart:
                has_attributes = True
            elif kind is _Text and has_attributes:
                attributes += token["text"]
            elif kind is _Text:
                name += token["text"].strip().lower()
        return name, attributes, False

    def close_tag(self) -> None:
        inside, frame = self.pop()
        self.skip(_TagOpenOpen, _TagCloseClose)  # the closing tag repeats the name
        name = frame.name
        if name in LITERAL_TAGS:
            inside = inside.replace("''", f"'{NOTHING}'")  # literal apostrophes, neither bold nor italic
        if name in TEX_TAGS:
            inside = f"${' '.join(inside.split())}$" if inside.strip() else ""
        elif name in SCRIPT_TAGS:
            inside = mark_script(REFERENCE if frame.level else SCRIPT_TAGS[name], inside)
        elif name in CODE_TAGS:
            inside = "".join(f"\n{VERBATIM}{line}" for line in inside.strip("\n").split("\n")) + "\n"
        elif name == "li":
            inside = f"\n{ITEM}{inside}"
        elif name in BLOCK_TAGS:
            inside = f"\n{inside}\n"
        self.pieces.append(inside)


def _render_link(title: str, inside: str, hidden: frozenset[str]) -> str:
    """Return the visible text of `[[title|inside]]`; without a title `inside` is the target."""
    target = (title or inside).strip()
    if is_hidden_link(target, inside if title else None, hidden):
        return ""
    prefix, _, rest = target.partition(":")
    if not title:
        is_language = rest[:1] not in (" ", "") and LANGUAGE.fullmatch(prefix.lower())
        return "" if is_language else target.removeprefix(":")
    return inside if inside.strip() else target.rpartition(":")[2].partition(" (")[0]  # the pipe trick


def lay_out(folded: str) -> str:
    """Return lines without stray spaces, with `- ` before items, no consecutive empty lines and no headings without text."""
    lines: list[str] = []
    waiting: list[tuple[int, str]] = []  # headings without text so far, outermost first
    for line in folded.split("\n"):
        if line[:1] == HEADING:
            level = int(line[1])
            waiting = [heading for heading in waiting if heading[0] < level]
            waiting.append((level, _tidy(line[2:])))
            continue
        tidied = line[1:].rstrip() if line[:1] == VERBATIM else _tidy(line)
        if not tidied:
            if (
                lines and lines[-1] and not waiting and ITEM not in line
            ):  # an item that lost its text does not end a paragraph
                lines.append("")
            continue
        for _, heading in waiting:
            if heading:
                lines += ["", heading, ""] if lines and lines[-1] else [heading, ""]
        waiting = []
        lines.append(tidied)
    return "\n".join(lines).strip("\n")


def _tidy(line: str) -> str:
    """Return one line with `- ` for items, single spaces, and without the gaps that dropped markup left."""
    depth = 0
    if ITEM in line:
        start = line.lstrip()
        depth = len(start) - len(start.lstrip(ITEM))
        line = line.replace(ITEM, " ")
    line = " ".join(line.replace(VERBATIM, " ").split())
    if "''" in line:
        line = " ".join(_remove_quotes(line).split())
    if "__" in line:
        line = SWITCH.sub("", line).strip()
    if "(" in line:
        line = OPENED_BRACKET.sub("(", EMPTY_BRACKETS.sub("", line)).replace(" )", ")")
    if " ," in line:
        line = line.replace(" ,", ",")
    if NOTHING in line:
        line = line.replace(NOTHING, "")
    return f"{'  ' * (depth - 1)}- {line}" if depth and line else line


def _remove_quotes(line: str) -> str:
    """Remove the quotes for bold (three) and italic (two), by MediaWiki's rule for unpaired runs: four are an apostrophe and three;
    more than five are apostrophes and five; if both kinds are odd, one bold is an apostrophe and an italic (`L'''amour''`)."""
    parts = QUOTES.split(line)
    runs = range(1, len(parts), 2)
    sizes = {at: len(parts[at]) for at in runs}
    extra = {at: 1 if size == 4 else max(size - 5, 0) for at, size in sizes.items()}
    bolds = [at for at, size in sizes.items() if size in (3, 4)]
    n_both = sum(size >= 5 for size in sizes.values())
    n_italic = sum(size == 2 for size in sizes.values())
    if bolds and (len(bolds) + n_both) % 2 and (n_italic + n_both) % 2:
        after_letter = [at for at in bolds if parts[at - 1][-1:].strip()]
        single = [at for at in after_letter if not parts[at - 1][-2:-1].strip()]
        extra[(single or after_letter or bolds)[0]] += 1
    for at in runs:
        parts[at] = "'" * extra[at]
    return "".join(parts)
