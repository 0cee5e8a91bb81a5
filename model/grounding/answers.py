"""List the answers that passages allow: quotations of them and the abstention, in the one form that models are trained on.

In: a search's argument and the text that search_docs returned for it. Out: candidate answers, each of them right in form:

    asked: "verbatim piece of a passage" [title of the passage]          one line a quotation
    asked: the documentation I found does not say.

so that an answer can be chosen by the model's score and nothing is invented. A passage is one line, `[title] "First sentence."
More. — name(signature)`; its pieces are the quoted text, each further sentence and the signature. Code decides what needs no
judgment: a passage about the very name that was asked for rules the others out, and of an identifier that no passage is
about nothing is quoted. Needs the standard library only. Time: O(characters).

Covers: text inside passages is data; whatever it says, only these candidates exist. Does not cover: the truth of a passage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice, permutations, product
from typing import NamedTuple

from model.grounding.matching import (
    EXACT,
    OTHER,
    TAIL,
    is_identifier,
    measure_closeness,
    split_facet,
    split_queries,
)
from model.tokenizer.chat import ToolCall

NOTHING_FOUND = "No passage found."  # the result of search_docs in that case
LINE_BREAK = " ⏎ "  # stands for a line break of code inside a passage's line
REFUSAL_OPENING = "I can't help with that"  # of every refusal; the reason follows
OUT_OF_SCOPE = "That is not in what I know; I know Python documentation, arithmetic, units and dates."
MAX_PIECES = 8  # of a passage
MAX_ANSWERS = 400
MIN_PIECE_WORDS = 2
_ABSTENTION = "the documentation I found does not say."
_QUOTE = re.compile(r'(?P<asked>[^"\n]*): "(?P<text>.*)" \[(?P<title>[^\n]*)\]')
_PASSAGE = re.compile(r"\[(?P<title>[^\n]*?)\] (?P<text>\S[^\n]*)")
_QUOTED = re.compile(r'"(?P<quoted>.+?)"(?=\s|$)')
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\s.a-z])")
_ERROR = "error: "
_FAILURES = {"calculator": "calculate", "convert_units": "convert", "calculate_date": "work out", "count_text": "count"}


class Quote(NamedTuple):
    """The parts of a line that quotes."""

    asked: str
    text: str
    title: str


class Shown(NamedTuple):
    """A passage as search_docs shows it."""

    title: str
    text: str


def format_quote(asked: str, text: str, title: str) -> str:
    """Return the line that quotes `text` of the passage `title`."""
    return f'{asked}: "{text}" [{title}]'


def parse_quote(line: str) -> Quote | None:
    """Return the parts of an answer that is one quotation; None if it has another form."""
    match = _QUOTE.fullmatch(line.strip())
    return Quote(match["asked"], match["text"], match["title"]) if match else None


def parse_quotes(text: str) -> list[Quote]:
    """Return the quotations among the lines of an answer."""
    return [quote for line in text.split("\n") if (quote := parse_quote(line)) is not None]


def format_abstention(asked: str = "") -> str:
    """Return the answer that abstains; without `asked` where nothing was searched for."""
    return f"{asked}: {_ABSTENTION}" if asked else "T" + _ABSTENTION[1:]


def is_abstention(text: str, asked: str) -> bool:
    """Return whether an answer abstains about `asked` and quotes nothing."""
    return _ABSTENTION[1:] in text and asked in text and not parse_quotes(text)


def format_report(call: ToolCall, result: str) -> str:
    """Return the sentence that reports the result of a tool other than search_docs."""
    if result.startswith(_ERROR):
        return f"I can't {_FAILURES.get(call.name, 'do')} that: {result.removeprefix(_ERROR).rstrip('.')}."
    return f"{call.argument} = {result}" if call.name == "calculator" else result


def parse_passages(result: str) -> list[Shown]:
    """Return the passages in a result of search_docs: one a line."""
    matches = map(_PASSAGE.fullmatch, result.split("\n"))
    return [Shown(match["title"], match["text"].rstrip()) for match in matches if match]


def list_pieces(passage: Shown) -> list[str]:
    """Return what can be quoted of a passage, in its order: the quoted text, further sentences, the signature."""
    body, mark, signature = passage.text.rpartition(" — ")
    if not mark:
        body, signature = passage.text, ""
    pieces: list[str] = []
    rest = body
    if body.startswith('"'):
        if len(body) > 2 and body.endswith('"'):  # all of it is quoted: entries, or code that may have quotation marks
            pieces.append(body[1:-1])
        while (match := _QUOTED.match(rest)) is not None:
            pieces.append(match["quoted"])
            rest = rest[match.end() :].lstrip()
    pieces += [sentence for sentence in _SENTENCE_END.split(rest) if len(sentence.split()) >= MIN_PIECE_WORDS]
    if signature:
        pieces.append(signature)
    return list(islice(dict.fromkeys(piece.strip() for piece in pieces if piece.strip()), MAX_PIECES))


def list_answers(asked: str, result: str) -> list[str]:
    """Return every answer to the search `asked` that its result allows; the abstention is the last one.

    One query has one line; words may have a second one that quotes another passage, and `A; B` one line for each half.
    """
    passages = parse_passages(result)
    queries = split_queries(asked) or [asked]
    if len(queries) > 1:
        lines = [_list_lines(query, passages) for query in queries]
        return ["\n".join(chosen) for chosen in islice(product(*lines), MAX_ANSWERS)]
    answers = _list_lines(asked, passages)
    if is_words(asked):
        firsts = [format_quote(asked, pieces[0], each.title) for each in passages if (pieces := list_pieces(each))]
        answers[-1:-1] = ["\n".join(pair) for pair in permutations(dict.fromkeys(firsts), 2)]
    return answers[:MAX_ANSWERS]


def is_words(asked: str) -> bool:
    """Return whether a search is in words instead of for a name."""
    return any(map(str.isspace, split_facet(asked).name))


def _list_lines(asked: str, passages: Sequence[Shown]) -> list[str]:
    """Return the lines that answer one query: quotations, and the abstention unless a passage is about the name itself."""
    name, facet = split_facet(asked)
    about = select_passages(name, passages)
    lines = [format_quote(asked, piece, each.title) for each in about for piece in list_pieces(each)]
    is_certain = not facet and not is_words(asked) and any(_is_exact(each, name) for each in about)
    return list(dict.fromkeys(lines if lines and is_certain else [*lines, format_abstention(asked)]))


def select_passages(name: str, passages: Sequence[Shown]) -> list[Shown]:
    """Return the passages that can answer a question about a name: those about it if there are any; else, for an identifier, those
    with the same or a similar last part; for words, all."""
    if is_words(name):
        return list(passages)
    closeness = [measure_closeness(each.title, name) for each in passages]
    if EXACT in closeness:
        return _keep(passages, closeness, EXACT)
    if not is_identifier(name):
        return list(passages)
    best = max(closeness, default=OTHER)
    return _keep(passages, closeness, min(best, TAIL)) if best > OTHER else []


def _keep(passages: Sequence[Shown], closeness: Iterable[int], least: int) -> list[Shown]:
    return [each for each, value in zip(passages, closeness, strict=True) if value >= least]


def _is_exact(passage: Shown, name: str) -> bool:
    return measure_closeness(passage.title, name) == EXACT
