"""Render a section as a passage: the one line that a model reads and quotes.

In: a section, and the part of it that was asked for (a parameter's name, or nothing). Out: `"First sentence." More. — sum(a,
axis=None)` for a symbol, quoted entries for parameters, return values and exceptions, code for examples with line breaks as ` ⏎ `,
quoted sentences for prose; at most `max_chars` characters. What is in quotation marks is in the section word by word; only white
space and punctuation differ. Control characters become spaces. Time: O(max_chars), whatever the length of the section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from model.grounding.answers import LINE_BREAK
from model.retrieval.cutting.entries import FieldEntry, list_entries
from model.retrieval.cutting.sentences import extract_paragraphs, has_full_stop, split_sentences
from model.retrieval.sections import FACET, Section

MAX_PASSAGE_CHARS = 320
MAX_SIGNATURE_CHARS = 96
WITH_ENTRIES = ("parameters", "other parameters", "returns", "yields", "raises", "warns", "attributes")
READ_FACTOR = 4  # as much of a section as can matter for a passage, in units of its length
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HEADING = re.compile(
    r"\s*(?:#{1,6} [^\n]*|[^\n]+\n([-=~^*#\"'.`_+])\1{2,}[ \t]*|[A-Z][A-Za-z ]{2,24}?[ ]?::?[ \t]*)(?:\n|\Z)"
)
_UNDERLINE = re.compile(r"([-=~^*#\"'.`_+])\1{2,}[ \t]*\n")
_CODE = re.compile(r"[ \t]*(?:>>>|\.\.\.)(?: |$)|[ \t]{4}\S")
_DIRECTIVE = re.compile(r"\s*(?:\.\. [\w-]+::.*|```.*|~~~.*)")
_UNFINISHED = " —"  # follows a sentence without a full stop, so that its end is visible


def render_passage(section: Section, entry: str = "", max_chars: int = MAX_PASSAGE_CHARS) -> str:
    """Return the text that follows the title. `entry`: show this parameter of the section alone, if it has it."""
    text = _CONTROL.sub(" ", section.text)
    if section.kind == "symbol":
        return _render_symbol(section, text[: READ_FACTOR * 4 * max_chars], max_chars)
    if section.kind == FACET and section.facet.rstrip(" §0123456789") == "examples":
        code = _render_code(text[: 40 * max_chars], max_chars)
        if code:
            return code
    elif section.kind == FACET and section.facet.rstrip(" §0123456789") in WITH_ENTRIES:
        entries = list_entries(text)
        if shown := _render_entries([each for each in entries if entry in each.names] if entry else entries, max_chars):
            return shown
    return _render_prose(text[: READ_FACTOR * max_chars + 400], max_chars)


def render_line(section: Section, entry: str = "", max_chars: int = MAX_PASSAGE_CHARS) -> str:
    """Return `[title] passage`; the title of one parameter is `numpy.sum: axis`."""
    title = f"{section.name}: {entry}" if entry else section.title
    return f"[{title}] {render_passage(section, entry, max_chars)}"


def has_entry(section: Section, name: str) -> bool:
    """Return whether a facet has an entry of this name."""
    return any(name in entry.names for entry in list_entries(section.text))


def _render_symbol(section: Section, text: str, max_chars: int) -> str:
    head, _, body = text.partition("\n\n")
    body = body if section.title in head and body.strip() else "" if section.title in head else text
    space = "" if section.signature.startswith("(") or not section.signature else " "
    label = f" — {section.title.rpartition('.')[2]}{space}{shorten(section.signature, MAX_SIGNATURE_CHARS)}"
    prose = _collect_prose(body, max_chars) or split_sentences(" ".join(body.split())[: 2 * max_chars])
    return quote_first(prose, max_chars - len(label)) + label if prose else label.lstrip()


def _collect_prose(body: str, max_chars: int) -> list[str]:
    """Return the sentences of the first paragraphs, up to about `max_chars`."""
    prose: list[str] = []
    for paragraph in extract_paragraphs(body):
        *whole, last = split_sentences(paragraph[: 2 * max_chars])
        prose += [*whole, last if has_full_stop(last) else last + _UNFINISHED]
        if sum(map(len, prose)) > max_chars:
            break
    return prose


def _render_prose(text: str, max_chars: int) -> str:
    """Return the first sentences, without the heading above them."""
    body = text
    while (match := _UNDERLINE.match(body) or _HEADING.match(body)) and body[match.end() :].strip():
        body = body[match.end() :]
    parts = [part for block in re.split(r"\n\s*\n", body) for part in split_sentences(" ".join(block.split())) if part]
    return quote_first(parts, max_chars) if parts else " ".join(text.split())[:max_chars]


def _render_entries(entries: Sequence[FieldEntry], max_chars: int) -> str:
    """Return as many entries as fit, each in quotation marks; the first one with less of its description if it must be."""
    shown: list[str] = []
    left = max_chars
    limit = max_chars if len(entries) == 1 else max_chars // 2
    for entry in entries:
        text = _join_entry(entry, min(limit, left) - 2)
        if not text:
            continue
        shown.append(f'"{text}"')
        left -= len(shown[-1]) + 1
    if shown or not entries:
        return " ".join(shown)
    return shorten(_quote_safely(f"{entries[0].head} {entries[0].description}"), max_chars)


def _join_entry(entry: FieldEntry, max_chars: int) -> str:
    """Return head and as many whole sentences of the description as fit; "" if it says nothing in so few characters."""
    head = _quote_safely(entry.head)
    if not head:
        parts = split_sentences(_quote_safely(entry.description[: 2 * max(max_chars, 1)]))
        return join_fitting(parts, max_chars) if parts and len(parts[0]) <= max_chars else ""
    text = head
    for sentence in split_sentences(_quote_safely(entry.description)):
        longer = f"{text}{'' if text.endswith((':', '.', '!', '?')) else '.'} {sentence}"
        if len(longer) > max_chars:
            break
        text = longer
    is_empty = text == head and head.endswith(":") and bool(entry.description)
    return text if len(text) <= max_chars and not is_empty else ""


def _quote_safely(text: str) -> str:
    return text.replace('"', "'")


def _render_code(text: str, max_chars: int) -> str:
    """Return the first lines of code as one quoted line; "" if the section has none."""
    lines = list(_list_code(text))
    kept: list[str] = []
    left = max_chars - 2
    for line in lines:
        if len(line) + len(LINE_BREAK) > left:
            break
        kept.append(line)
        left -= len(line) + len(LINE_BREAK)
    if not kept:
        return f'"{lines[0][: max_chars - 2]}"' if lines else ""
    return f'"{LINE_BREAK.join(kept)}"'


def _list_code(text: str) -> Iterator[str]:
    """Yield the lines from the first line of code on, up to the prose after it."""
    lines = [line.rstrip() for line in text.split("\n")]
    first = next((at for at, line in enumerate(lines) if _CODE.match(line) and not _DIRECTIVE.fullmatch(line)), None)
    if first is None:
        return
    has_prompt = lines[first].lstrip().startswith(">>>")
    indent = len(lines[first]) - len(lines[first].lstrip())
    code = list(lines[first:])
    for at, line in enumerate(code):
        is_blank = not line.strip()
        after = code[at + 1] if at + 1 < len(code) else ""
        if is_blank and (not _CODE.match(after) or not after.strip()):
            return
        if not has_prompt and not is_blank and len(line) - len(line.lstrip()) < indent:
            return
        if not is_blank and not _DIRECTIVE.fullmatch(line):
            yield line[indent:] if line[:indent].isspace() or not indent else line.lstrip()


def quote_first(parts: Sequence[str], max_chars: int) -> str:
    """Return the sentences that fit, the first in quotation marks; a first sentence that had to be cut gets none."""
    text, first = join_fitting(parts, max_chars - 2), parts[0].removesuffix(_UNFINISHED)
    if not text.startswith(first):
        return text
    return f'"{_quote_safely(first)}"{text[len(first) :]}'


def join_fitting(parts: Sequence[str], max_chars: int) -> str:
    """Return as many whole sentences as fit into `max_chars`; the first one is shortened if it is too long by itself."""
    text = parts[0] if len(parts[0]) <= max_chars else shorten(parts[0], max_chars)
    for part in parts[1:]:
        if len(text) + 1 + len(part) > max_chars:
            break
        text = f"{text} {part}"
    return text.removesuffix(_UNFINISHED)


def shorten(text: str, max_chars: int) -> str:
    """Return `text` cut to `max_chars` characters with an ellipsis, at a space if there is one in the second half."""
    if len(text) <= max_chars:
        return text
    cut = text[: max(max_chars - 1, 0)]
    at = cut.rfind(" ")
    return (cut[:at] if at > len(cut) // 2 else cut).rstrip(" ,;:") + "…"
