"""Split a message into what is to be done and the text that it is to be done with.

In: a message, such as `Summarize this: …`, `Which of these labels fits "…"?`, or a text with the instruction in a line of its
own before or after it. Out: the instruction, with the demands on the answer's form, and the text. Needs the standard library
only. Time: O(characters).

Covers: a text in quotation marks, code fences or tags, after a colon, in other lines than the instruction. Does not cover: a text
that only follows on the instruction without a mark, or one of an earlier turn.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from model.grounding.constraints import Constraint, read_constraints

MAX_CHARS = 20_000  # of a message: a longer one is no text to work on, its window is smaller
MAX_INSTRUCTION_WORDS = 60
MIN_QUOTED_WORDS = 3
_FENCED = re.compile(
    r"```\w*\n?(?P<a>.+?)```|<(?P<tag>\w{1,20})>\s*(?P<b>.+?)\s*</(?P=tag)>|\"\"\"\s*(?P<c>.+?)\s*\"\"\"", re.DOTALL
)
_QUOTED = re.compile(
    r'"(?P<a>[^"]+)"|“(?P<b>[^”]+)”|„(?P<c>[^“”]+)[“”]|«\s*(?P<d>[^»]+?)\s*»|'
    r"(?<!\w)'(?P<e>[^\n]+)'(?!\w)"
)
_COLON = re.compile(r":\s+")
# An enumeration after a colon belongs to the instruction: `Which label fits: bug, question or praise? …`
_LIST_FIRST = re.compile(r"[^.!?\n:]{2,80}?(?:,|/|\bor\b)[^.!?\n:]{1,60}[?:]\s+(?=\S)")
_ENDS_IN_LIST = re.compile(r":\s+[^.!?\n:]{2,80}(?:,|/|\bor\b)[^.!?\n:]{1,60}[?:]?\s*(?:[^:]{0,60}[.:])?$")
_ENDS = re.compile(r"(?<=[.!?\"”])\s+")
_DEMAND = re.compile(
    r"(?:please\s+)?(?:answer|reply|respond|return|output|format|write|give|use|keep|only|just|as|in|no|one|do not|don't|"
    r"at most)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"^(?:please |can you |could you |now )*(?:extract|summari[sz]e|classify|categori[sz]e|label|list|find|"
    r"count|write|put|turn|convert|change|reverse|sort|order|arrange|rewrite|make|repeat|uppercase|lowercase|capitali[sz]e|"
    r"number of|tag|(?:the )?(?:most important|key|main|central)|"
    r"decide|tell me|choose|assign|determine|would you|rate|does|name|boil|condense|in a nutshell|in (?:one|a) sentence|"
    r"identify|sentiment|topic|category|question: ?|"
    r"pull|pick|get|give|what|which|who|whom|when|where|how (?:much|many)|is |tl;?dr|sum up|shorten)|"
    r"\b(?:summari[sz]e|summary|classify|categori[sz]e|extract)\b",
    re.IGNORECASE,
)


class GivenText(NamedTuple):
    """An instruction and the text that it is about. `is_marked`: the text is set off by more than a question mark before it."""

    instruction: str
    text: str
    is_marked: bool = True


def split_given_text(message: str) -> GivenText | None:
    """Return the instruction and the text of a message; None if it brings none along."""
    message = message.strip()
    if not message or len(message) > MAX_CHARS:
        return None
    for split in (_split_fenced, _split_lines, _split_end, _split_colon, _split_quoted, _split_question):
        given = split(message)
        if given is not None and 0 < len(given.instruction.split()) <= MAX_INSTRUCTION_WORDS and given.text:
            return given
    return None


def read_demands(message: str) -> tuple[Constraint, ...]:
    """Return what a message demands of the answer's form; what a text says that it brings along demands nothing."""
    given = split_given_text(message)
    return read_constraints(given.instruction if given is not None and given.is_marked else message)


def _cut(message: str, match: re.Match[str]) -> GivenText:
    """Return the text that a match marks, and what is around it as the instruction."""
    text = next(value for name, value in match.groupdict().items() if value is not None and name != "tag")
    return GivenText(" ".join(f"{message[: match.start()]} {message[match.end() :]}".split()), text.strip())


def _split_fenced(message: str) -> GivenText | None:
    match = _FENCED.search(message)
    return _cut(message, match) if match else None


def _split_quoted(message: str) -> GivenText | None:
    """Split off the longest quoted text."""
    matches = [_cut(message, match) for match in _QUOTED.finditer(message)]
    return max(matches, key=lambda given: len(given.text), default=None)


def _split_end(message: str) -> GivenText | None:
    """Split off a quoted text at the end or at the beginning, which is all that follows on the last colon, or most of it."""
    given = _split_quoted(message)
    if given is None or len(given.text.split()) < MIN_QUOTED_WORDS or not _ASKS.search(given.instruction):
        return None
    is_outside = message.rstrip(" .?!")[-1:] in "\"”“»'" or message[:1] in "\"“„«'"
    return given if is_outside and 2 * len(given.text) > len(message.rpartition(": ")[2]) else None


def _split_question(message: str) -> GivenText | None:
    """Split after a question with which a message begins."""
    question, mark, text = message.partition("? ")
    return GivenText(question + "?", text.strip(), is_marked=False) if mark and _ASKS.search(question) else None


def _split_lines(message: str) -> GivenText | None:
    """Split a message of several lines, whose first or last line is an instruction."""
    lines = [line.strip() for line in message.split("\n") if line.strip()]
    if len(lines) < 2:
        return None
    first, last = lines[0], lines[-1]
    if _ASKS.search(first) and (_ENDS_IN_LIST.search(first) or not re.search(r":\s+\S+\s+\S+\s+\S", first)):
        body, demands = lines[1:], [first.rstrip(":")]
        if len(body) > 1 and _is_demand(body[-1]):
            demands.append(body.pop())
        return GivenText(" ".join(demands), _strip_mark("\n".join(body)))
    if _ASKS.search(last) or re.match(r"(?:question|task)\s*:", last, re.IGNORECASE):
        return GivenText(_strip_mark(last), _strip_mark("\n".join(lines[:-1])))
    return None


def _split_colon(message: str) -> GivenText | None:
    """Split at the first colon after which there is a text; a demand at the text's end belongs to the instruction."""
    for match in _COLON.finditer(message):
        head, text = message[: match.start()], message[match.end() :].strip()
        if not _ASKS.search(head):
            continue
        if labels := _LIST_FIRST.match(text):
            return GivenText(f"{head}: {labels[0].strip()}", text[labels.end() :].strip())
        sentences = _ENDS.split(text)
        tail: list[str] = []
        while len(sentences) > 1 and _is_demand(sentences[-1]):
            tail.insert(0, sentences.pop())
        text = text[: len(text) - sum(len(each) + 1 for each in tail)].strip() if tail else text
        inner = _QUOTED.fullmatch(text)
        return GivenText(" ".join([head, *tail]), _cut(text, inner).text if inner else text)
    return None


def _is_demand(sentence: str) -> bool:
    return _DEMAND.match(sentence) is not None and bool(read_constraints(sentence))


def _strip_mark(text: str) -> str:
    """Return a text without `Text:` before it and quotation marks around it."""
    text = re.sub(
        r"^(?:text|message|review|email|sentence|note|article|question|task|ticket|input)\s*:\s*",
        "",
        text.strip(),
        flags=re.IGNORECASE,
    )
    inner = _QUOTED.fullmatch(text)
    return _cut(text, inner).text if inner else text
