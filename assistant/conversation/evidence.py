"""What the answers of a conversation may quote, and the check that they quote nothing else.

In: the sections that searches returned, the passages in the history; then an answer, in pieces. Out: citations with exact places,
and the answer without quotations that are not verbatim in what they cite. An answer is held back from a quotation mark on until
its line is complete; other text passes at once. Time: O(characters), a regular expression for each quotation.

Covers: every `"quotation" [title]`, whoever wrote it: the choice among candidates, free text, a hostile engine. Does not cover:
statements without quotation marks (`makes_claims` finds those with names or numbers that the user has not typed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from assistant.conversation.events import Citation, Message
from model.grounding.answers import Quote, format_abstention, parse_passages
from model.grounding.citations import Citable, find_words, verify_quote

MAX_SECTIONS = 200  # of a conversation that are remembered
_CITED = re.compile(r'"(?P<text>[^\n]+?)"\s*\[(?P<title>[^\n]+?)\](?=[\s.,;:!?)"]|$)')
_CLAIM = re.compile(r'\d+|[^\W\d]\w*(?:\.\w+)+|"[^"\n]+"|\[[^\]\n]+\]|\w+_\w+|https?://\S+')
_HELD = re.compile(r'(?::\s*)?"|:\s*$')


class Evidence:
    """The sections and passages of one conversation."""

    def __init__(self) -> None:
        self.sections: dict[str, list[Citable]] = {}

    def add(self, shown: Iterable[tuple[str, Citable]]) -> None:
        """Remember the sections of a search by the title under which they were shown; the oldest titles are forgotten."""
        for title, section in shown:
            known = self.sections.pop(title, [])
            if all(other.sha256 != section.sha256 or other.doc_id != section.doc_id for other in known):
                known = [*known, section]
            self.sections[title] = known
        for title in list(self.sections)[: max(len(self.sections) - MAX_SECTIONS, 0)]:
            del self.sections[title]

    def cite(self, text: str, messages: Sequence[Message]) -> list[Citation] | None:
        """Return a citation for each quotation of a text whose section is known; None if a quotation is verbatim nowhere."""
        citations: list[Citation] = []
        for match in _CITED.finditer(text):
            quote = Quote("", match["text"], match["title"])
            if (citation := verify_quote(quote, self.sections.get(quote.title, []))) is not None:
                citations.append(citation)
            elif quote.title in self.sections or not _is_shown(quote, messages):
                return None
        return citations


def _is_shown(quote: Quote, messages: Sequence[Message]) -> bool:
    """Return whether a message that is not the assistant's shows a passage with this title and text."""
    return any(
        passage.title == quote.title and find_words(quote.text, passage.text) is not None
        for message in messages
        if message.role in ("tool", "user")
        for line in message.text.split("\n")
        for passage in parse_passages(line[max(line.find("["), 0) :])
    )


class QuotationScreen:
    """Lets the text of an answer pass, except for quotations that `evidence` does not have."""

    def __init__(self, evidence: Evidence, messages: Sequence[Message]) -> None:
        self._evidence, self._messages = evidence, messages
        self._shown, self._held = "", ""  # of the current line
        self.n_withheld = 0

    def pass_on(self, piece: str) -> Iterator[str | Citation]:
        """Yield what can be shown after one more piece, perhaps nothing; citations come before the line that they belong to."""
        *ended, rest = piece.split("\n")
        for part in ended:
            self._held += part
            yield from self._end_line("\n")
        is_quoting = '"' in self._held
        self._held += rest
        if is_quoting:
            return
        held = _HELD.search(self._held)
        text = self._held[: held.start()] if held else self._held
        if text:
            self._shown, self._held = self._shown + text, self._held[len(text) :]
            yield text

    def finish(self) -> Iterator[str | Citation]:
        """Yield the rest."""
        yield from self._end_line("")

    def _end_line(self, end: str) -> Iterator[str | Citation]:
        shown, held = self._shown, self._held
        self._shown, self._held = "", ""
        citations = self._evidence.cite(held, self._messages)
        if citations is None:
            self.n_withheld += 1
            held = f": {format_abstention()[:1].lower()}{format_abstention()[1:]}" if shown else format_abstention()
            citations = []
        yield from citations
        if held + end:
            yield held + end


def makes_claims(text: str, question: str) -> bool:
    """Return whether a text has a number, a dotted name, a quotation or an address that the user has not typed."""
    return any(match[0].strip('"[]') not in question for match in _CLAIM.finditer(text))
