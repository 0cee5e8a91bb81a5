"""Make exercises from course material by code, so that the right answer is in the material and can be checked without a model.

In: a section. Out: exercises, in this order of preference:

    output   what does the last line print? From `>>>` examples, with the output that the material shows
    code     which word is missing? A line of code, with a word removed that the prose of the section has too
    term     which term is missing? The first sentence, without the term of the section's title

Checking compares values where both are Python literals (`'a'` is `"a"`), else text without regard to case, quotation marks and
white space. Nothing is executed. Pure functions; time: O(characters).

Does not cover: answers in other words. They count as wrong, and the learner is told where to read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from model.retrieval.sections import Section
from model.retrieval.word_stems import STOP_STEMS, split_words

BLANK = "____"
MAX_SOLUTION_CHARS = 80
MAX_SHOWN_CHARS = 600  # of the text of an exercise
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)
_WORD = re.compile(r"[^\W\d]\w{2,}")
_LOOKS_LIKE_CODE = re.compile(
    r"^(?: {2,}|\t)\S|^\s*[\w.]+\(.*\)\s*;?$|^\s*[\w., \[\]]+ [-+*/|]?= \S|[{};]\s*$"
    r"|^\s*(?:async |pub )?(?:def|class|if|for|while|with|try|else|elif|except|fn|match)\b.*[:{]\s*$"
    r"|^\s*(?:import|from|use|let|return|yield|raise|print)\b[ (]"
)
_ITEM = re.compile(r"\s*(?:(?:[-*•]|\d+[.)])\s|\{\{)")  # an item of a list, or a macro of the documentation's tool
_ERROR = re.compile(r"[\w.]*(?:Error|Exception|Warning)\b|Traceback")
MIN_WORD_CHARS = 4  # of a word that is removed from code: shorter ones are `not`, `def`, `let`
_ENDS_LIKE_PROSE = re.compile(r"[.!?,]\s*$")


class Exercise(NamedTuple):
    """An exercise. `key` is the same whenever the material is; `title` and `url` say where its solution is."""

    key: str
    kind: str
    text: str
    solution: str
    title: str
    url: str


def list_exercises(section: Section) -> list[Exercise]:
    """Return the exercises of a section, the best first."""
    made = [*_ask_outputs(section.text), *_ask_code(section.text), *_ask_term(section)]
    return [
        Exercise(
            f"{section.sha256[:16]}-{kind}-{number}",
            kind,
            _ask(kind, text, section),
            solution,
            section.title,
            section.url,
        )
        for number, (kind, text, solution) in enumerate(made)
        if 0 < len(solution) <= MAX_SOLUTION_CHARS and len(text) <= MAX_SHOWN_CHARS
    ]


def _ask(kind: str, text: str, section: Section) -> str:
    """Return the text of an exercise with its source, unless that gives the term away."""
    return text[:1].upper() + text[1:] if kind == "term" else f"From [{section.title}]: {text}"


def is_right(exercise: Exercise, answer: str) -> bool:
    """Return whether an answer is the solution."""
    given, solution = answer.strip().strip("`").strip(), exercise.solution
    if exercise.kind == "output":
        try:
            value, expected = ast.literal_eval(given), ast.literal_eval(solution)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return given.split() == solution.split()
        return type(value) is type(expected) and value == expected
    return _normalize(given) == _normalize(solution)


def _normalize(text: str) -> str:
    return " ".join(text.strip(" \t.,;:!?\"'()").casefold().split())


def _ask_outputs(text: str) -> Iterator[tuple[str, str, str]]:
    """Ask for the output of `>>>` examples that print one line."""
    lines = text.split("\n")
    context: list[str] = []
    for number, line in enumerate(lines):
        stripped = line.strip()
        if stripped.startswith((">>>", "...")):
            context.append(stripped)
            continue
        output = stripped if context and context[-1].startswith(">>> ") else ""
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if output and not _ERROR.match(output) and "..." not in output and _is_end(following):
            yield "output", "what does the last line print?\n" + "\n".join(context), output
        if not stripped:
            context = []


def _is_end(line: str) -> bool:
    return not line or line.startswith(">>>")


def _ask_code(text: str) -> Iterator[tuple[str, str, str]]:
    """Ask for the word of a line of code that the section explains."""
    lines = [line for line in text.split("\n") if line.strip() and not line.strip().startswith((">>>", "..."))]
    code = [line for line in lines if is_code(line)]
    prose = {word for line in lines if not is_code(line) for word in _WORD.findall(line)}
    for line in code:
        words = [word for word in _WORD.findall(line) if word in prose and split_words(word)[0] not in STOP_STEMS]
        word = max(words, key=len, default="")
        if len(word) >= MIN_WORD_CHARS:
            shown = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", BLANK, line)
            yield "code", f"which word is missing in this line?\n{shown.strip()}", word


def is_code(line: str) -> bool:
    """Return whether a line of a section looks like code."""
    return bool(_LOOKS_LIKE_CODE.search(line)) and not _ENDS_LIKE_PROSE.search(line) and not _ITEM.match(line)


def _ask_term(section: Section) -> Iterator[tuple[str, str, str]]:
    """Ask for the term that the section is about, in its first sentence."""
    match = _SENTENCE.search(section.text)
    if match is None or is_code(match[0]):
        return
    sentence = " ".join(match[0].split())
    stems = {stem for stem in split_words(_last_part(section)) if stem not in STOP_STEMS}
    terms = [word for word in _WORD.findall(sentence) if stems.intersection(split_words(word))]
    if terms:
        shown = re.sub(rf"(?<!\w){re.escape(terms[0])}(?!\w)", BLANK, sentence)
        yield "term", f"which term is missing?\n{shown}", terms[0]


def _last_part(section: Section) -> str:
    return section.heading[-1] if section.heading else section.title


def choose_exercise(sections: Sequence[Section], done: frozenset[str]) -> Exercise | None:
    """Return the first exercise of the sections that is not among `done`."""
    return next((each for section in sections for each in list_exercises(section) if each.key not in done), None)
