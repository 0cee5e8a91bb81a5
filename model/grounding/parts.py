"""Narrow the candidate answers where code knows what is asked for: a part of a name's documentation, or a corrected name.

In: a search's argument, its result, the candidates of model.grounding.answers. Out: the candidates that are left. Of
`numpy.sum: axis` or `numpy.sum: returns` only the quotation of that entry or part, entry by entry if some are shortened; of a
part without a section of its own the sentence or the signature of the main section that has it. Of a misspelled name that the
search corrected, quotations only: the answer shows the right name. All other candidates stay, so that the model chooses. Needs the
standard library only. Time: O(characters).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from model.grounding.answers import (
    Shown,
    format_abstention,
    format_quote,
    is_words,
    list_pieces,
    parse_passages,
    select_passages,
)
from model.grounding.matching import SIMILAR, measure_closeness, split_facet, split_queries

NAMED_PARTS = frozenset(("parameters", "returns", "raises", "examples", "signature", "notes", "yields", "attributes"))
_RETURNS = re.compile(r"Returns?\b|Gets? ")
_RAISES = re.compile(r"\b[Rr]aise[sd]?\b")


def narrow_answers(asked: str, result: str, answers: Sequence[str]) -> list[str]:
    """Return the candidates that are left, in their order; never none."""
    if len(split_queries(asked)) != 1 or is_words(asked):
        return list(answers)
    name, facet = split_facet(asked)
    about = select_passages(name, parse_passages(result))
    if facet and about:
        piece = choose_piece(facet, about)
        quote = format_quote(asked, piece[1], piece[0].title) if piece else format_abstention(asked)
        if quote in answers:
            return [quote]
        entries = [format_quote(asked, each, piece[0].title) for each in list_pieces(piece[0])] if piece else []
        lines = [
            line for line in entries if line in answers
        ]  # entries of which something was left out are no one quotation
        return ["\n".join(lines)] if lines else list(answers)
    quotes = [answer for answer in answers if answer != format_abstention(asked)]
    is_corrected = len(about) == 1 and measure_closeness(about[0].title, name) == SIMILAR
    return quotes if is_corrected and quotes else list(answers)


def choose_piece(facet: str, about: Sequence[Shown]) -> tuple[Shown, str] | None:
    """Return the passage and the piece of it that answer for a part of the documentation of a name; None if none does."""
    own = next((each for each in about if split_facet(each.title).facet), None)
    if own is not None and facet != "signature":
        found, pieces = split_facet(own.title).facet, list_pieces(own)
        if found == facet or found not in NAMED_PARTS:  # the part, or the entry of one parameter
            return (own, pieces[0]) if pieces else None
        return next(((own, piece) for piece in pieces[1:] if piece.startswith((f"{facet}:", f"{facet} "))), None)
    main = about[0]
    return next(((main, piece) for piece in _list_instead(facet, main)), None)


def _list_instead(facet: str, shown: Shown) -> list[str]:
    """Return the pieces of a main section that answer for a part without a section of its own.

    Return values: a sentence `Return the …`, or a signature with an arrow. Exceptions: a sentence about raising. One parameter: a
    sentence that has its name, or a signature that has it. Parameters and signature: the signature.
    """
    _, mark, signature = shown.text.rpartition(" — ")
    pieces = list_pieces(shown)
    sentences = [piece for piece in pieces if piece != signature] if mark else pieces
    arguments = signature[signature.find("(") + 1 : signature.rfind(")")] if mark and "(" in signature else ""
    if facet == "returns":
        return [piece for piece in sentences if _RETURNS.match(piece)] + [signature] * ("->" in signature)
    if facet == "raises":
        return [piece for piece in sentences if _RAISES.search(piece)]
    if facet in ("parameters", "signature"):
        return [signature] * bool(arguments.strip() or (facet == "signature" and "(" in signature))
    if facet in NAMED_PARTS:
        return []
    word = re.compile(rf"(?<!\w){re.escape(facet)}(?!\w)")
    return [piece for piece in [*sentences, signature if arguments else ""] if word.search(piece)]
