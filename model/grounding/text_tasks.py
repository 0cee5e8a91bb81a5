"""Read what a message wants done with a text that it brings along, and list the answers that the text allows.

In: a message: `Extract the dates from this email: …`, `Is this review positive or negative? …`, `Summarize this: …`. Out: the task,
and candidate answers in the demanded form: spans of the text for what is asked, the labels that the message names, sentences of
the text. So an answer is chosen by the model's score and nothing is invented; where one candidate is left (the only date of a
text) no model is needed. What the text does not have is said in one sentence (NOT_STATED). Needs the standard library only.
Time: O(characters).

Covers: one text in the message, up to four slots, up to twelve labels. Does not cover: summaries in words of its own, labels that
the message does not name (except for sentiment), relations between slots (`what each guest ordered`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, islice, product
from typing import NamedTuple

from model.grounding.answers import parse_passages
from model.grounding.constraints import (
    Constraint,
    are_met,
    count_words,
    format_answer,
    read_constraints,
    split_names,
)
from model.grounding.given_texts import split_given_text
from model.grounding.text_spans import classify_slot, find_spans

NOT_STATED = "The text does not say."
MAX_SLOTS = 4
MAX_SLOT_WORDS = 4  # more is no name of a slot
MAX_LABELS = 12
MAX_SENTENCES = 12  # of a text that can be chosen: its first ones and its last
MAX_ANSWERS = 200
MIN_TEXT_WORDS = 4
MIN_LEAD_WORDS = 6  # of a first sentence that is more than a greeting
# Of summaries; typed turns of the seen half right: 2 of 6 without both, 5 of 6 with them; held-out texts 27 and 29 of 30.
WORD_NATS = 4.0
LEAD_NATS = 4.0
SENTIMENTS = ("positive", "negative", "neutral")
_HOW_TO = re.compile(
    r"^\W*(?:how (?:do|can|to|would|should)|is there|in python|"
    r"write (?:an? |me |some |the )*(?:python|code|function|program|script|class|loop|regex)|"
    r"which (?:function|method)|what does)\b",
    re.IGNORECASE,
)
_SUMMARIZE = re.compile(
    r"\b(?:summari[sz]e[sd]?|summary|summari[sz]ing|tl;?dr|sum (?:it|this|that|the \w+)? ?up|shorten|boil|condense|gist|headline|"
    r"(?:main|key|central|most important|essential) (?:point|idea|sentence|message|information|statement)s?|"
    r"in a nutshell|in short)\b",
    re.IGNORECASE,
)
_CLASSIFY = re.compile(
    r"\b(?:classif\w+|categori[sz]\w+|categor(?:y|ies)|label(?:s|led|ed)?|sentiment|topics?|tone|mood|class(?:es)?|intent|priority|"
    r"is (?:this|it|that|the (?:following|text|message|review|comment|sentence|email|tweet))|kind of|type of|which of|"
    r"does (?:this|it)|sound|decide|whether|would you|pick|choose|assign|sort (?:this|it)|tag (?:this|it))\b",
    re.IGNORECASE,
)
_EXTRACT = re.compile(
    r"\b(?:extract|pull|pick|identify|list|find|get|give|tell|name|which|what(?:'s| is| are| was| were)?|who|whom|when|"
    r"where|how (?:much|many)|fill in|return|show|read off|need|want)\b",
    re.IGNORECASE,
)
_STRONG = re.compile(
    r"\b(?:extract|(?:out )?of this|text|message|e-?mail|note|sentence|following|paragraph|article|review|ticket|passage|letter|"
    r"mentioned|in this|from this|does it say|fill in|here|below|above|invoice|order)\b|\bin$",
    re.IGNORECASE,
)
_NAMES_TEXT = re.compile(
    r"\b(?:text|message|review|comment|sentence|e-?mail|ticket|tweet|note|article|paragraph|sentiment|label|category|following)\b",
    re.IGNORECASE,
)
_LABEL = r"[\"'`]?[\w&-]+(?: [\w&-]+){0,2}?[\"'`]?"
_LABELS = (
    re.compile(
        rf"({_LABEL}(?:\s*,\s*{_LABEL})*,?\s+(?:or|and|vs\.?)\s+{_LABEL})"
        r"(?=\s*(?:[?.:;!,)\n]|$|\b(?:for|in|as|based|depending)\b))", re.IGNORECASE),
    re.compile(rf"((?:{_LABEL}\s*[/|,]\s*)+{_LABEL})(?=\s*(?:[?.:;!)\n]|$))", re.IGNORECASE),
)  # fmt: skip
_BEFORE_LABELS = re.compile(
    r"^.*\b(?:as|into|either|between|of|labels?|categories|classes|options|topics|sentiment|choose|from|is|are|it|this|that|"
    r"sounds?|be|more|following|text|message|review|comment|sentence|email|ticket|tweet|a|an|the|label|category|is it|one)\b"
    r"(?:\s+(?:either|a|an|the))*\s+(?=\S)",
    re.IGNORECASE,
)
_SLOT_TAIL = re.compile(
    r"\s+(?:from|in|of|out of|mentioned|that|which|as|for|with|separated|does|do|is|are|was|were|did|given|listed|contained|found|"
    r"to|at|by|on|into|using|only|please|here|you|appear\w*|occur\w*|named|used|it|this|below|above)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_DETERMINERS = re.compile(
    r"^(?:(?:all|the|every|each|any|both|a|an|of|its|their|his|her|me|us|full|exact|name of the|list of|and)\s+)+",
    re.IGNORECASE,
)
_PLURAL = re.compile(r"\b(?:all|every|each|list|people)\b|\w{2,}(?<!s|u)s\b", re.IGNORECASE)
_ALL = re.compile(r"(?:me )?(?:all|every|each)\b", re.IGNORECASE)
_ASKING = {
    "person": r"who|whom|whose", "place": r"where|(?:which|what) (?:city|place|town|country)", "amount": r"how much",
    "time": r"(?:at )?(?:what|which) time", "moment": r"when", "date": r"(?:which|what) (?:day|date)", "number": r"how many",
}  # fmt: skip
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"')\]”’]*\s+(?=[\"'(“‘]?[A-ZÀ-Þ0-9])|\s*\n+\s*")
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|No|e\.g|i\.e|vs|approx|Inc|Ltd)\.$")
_CLAUSE = re.compile(
    r",? (?:because|which|who|while|although|but|so that|after|before|when|since|as well as|and)\b|[,;:–—] "
)


class Slot(NamedTuple):
    """What is to be extracted: its name as the message has it, its type (spans.py), and whether all of its kind are wanted."""

    name: str
    kind: str
    is_plural: bool = False


class TextTask(NamedTuple):
    """`kind` is extract, classify or summarize; slots and labels belong to the first two."""

    kind: str
    instruction: str
    text: str
    constraints: tuple[Constraint, ...]
    slots: tuple[Slot, ...] = ()
    labels: tuple[str, ...] = ()


@lru_cache(maxsize=256)
def read_text_task(message: str) -> TextTask | None:
    """Return what a message wants done with the text that it brings along; None if it is no such message."""
    given = split_given_text(message)
    if given is None or _HOW_TO.match(given.instruction) or parse_passages(given.text):
        return None
    instruction, text, is_marked = given
    constraints = read_constraints(instruction)
    is_about_text = is_marked or _NAMES_TEXT.search(instruction) is not None
    if is_about_text and (labels := read_labels(instruction)):
        return TextTask("classify", instruction, text, constraints, labels=labels)
    if count_words(text) < MIN_TEXT_WORDS:
        return None
    if is_about_text and _SUMMARIZE.search(instruction):
        return TextTask("summarize", instruction, text, constraints)
    slots = read_slots(instruction, constraints)
    if not is_marked and not all(slot.kind != "phrase" and find_spans(text, slot.kind) for slot in slots):
        return None  # it may be a question and its background
    return TextTask("extract", instruction, text, constraints, slots) if slots else None


def read_labels(instruction: str) -> tuple[str, ...]:
    """Return the labels that an instruction names, those of sentiment if it asks for that without naming any; else none."""
    if not _CLASSIFY.search(instruction):
        return ()
    for pattern in _LABELS:
        for match in pattern.finditer(instruction):
            first, *others = split_names(match[1])
            labels = tuple(dict.fromkeys((_BEFORE_LABELS.sub("", first).strip("\"'` "), *others)))
            if 2 <= len(labels) <= MAX_LABELS and all(labels):
                return labels
    return SENTIMENTS if re.search(r"\bsentiment\b", instruction, re.IGNORECASE) else ()


def read_slots(instruction: str, constraints: Sequence[Constraint] = ()) -> tuple[Slot, ...]:
    """Return what an instruction wants extracted; none if it does not say what in a known form."""
    keys = next((each.value for each in constraints if each.kind == "json" and isinstance(each.value, tuple)), ())
    if keys:
        return tuple(Slot(key, classify_slot(key), _is_plural(key)) for key in keys[:MAX_SLOTS])
    for kind, words in _ASKING.items():
        if re.search(rf"(?:^|\bquestion: |\bsay |\bme |\.\s+){'(?:' + words + ')'}\b", instruction, re.IGNORECASE):
            return (Slot(kind, kind),)
    verb = _EXTRACT.search(instruction)
    if verb is None or not _STRONG.search(instruction):
        return ()
    rest = instruction[verb.end() :].strip(" :")
    wants_all = _ALL.match(rest) is not None
    names = [
        _SLOT_TAIL.sub("", _DETERMINERS.sub("", name + " ").strip()).strip(" .?!:")
        for name in split_names(_cut_tail(rest))
    ]
    names = [name for name in names if name and len(name.split()) <= MAX_SLOT_WORDS]
    return tuple(Slot(name, classify_slot(name), wants_all or _is_plural(name)) for name in names[:MAX_SLOTS])


def _cut_tail(text: str) -> str:
    """Return an enumeration of slots without what follows it: `the dates and names from the text below`."""
    text = _DETERMINERS.sub("", text)
    return re.split(
        r"[.?!;\n]|\s+(?:from|in|of|out of|mentioned|that|as|for|with|separated|does|do|is|are|was|were|into)\s", text
    )[0]


def _is_plural(name: str) -> bool:
    return _PLURAL.search(name) is not None and not name.lower().endswith(("address", "business"))


def weigh_text_answers(task: TextTask, answers: Sequence[str]) -> tuple[float, ...]:
    """Return the bonuses of the answers in nats: of a summary for each word, since to copy an unusual word costs a small model
    that much and short sentences would win, and for the first sentence that is more than a greeting; none for other tasks."""
    if task.kind != "summarize":
        return ()
    n_words = [count_words(answer) for answer in answers]
    lead = next((number for number, n in enumerate(n_words) if n >= MIN_LEAD_WORDS), 0)
    return tuple(WORD_NATS * n + LEAD_NATS * (number == lead) for number, n in enumerate(n_words))


def list_text_answers(task: TextTask) -> list[str]:
    """Return the candidate answers, each in the demanded form; never none."""
    if task.kind == "classify":
        answers = [format_answer(task.constraints, [label], ["label"]) for label in task.labels]
    elif task.kind == "summarize":
        answers = list(_list_summaries(task))
    else:
        answers = list(_list_extractions(task))
    return list(dict.fromkeys(answers))[:MAX_ANSWERS]


def _list_extractions(task: TextTask) -> Iterator[str]:
    names = [slot.name for slot in task.slots]
    options = [list(_list_values(slot, task.text)) for slot in task.slots]
    if len(options) == 1:
        yield from (format_answer(task.constraints, values, _name_all(task, values), "") for values in options[0])
        return
    for values in islice(product(*options), MAX_ANSWERS):
        joined = [", ".join(each) for each in values]
        lines = "\n".join(f"{name}: {value}" for name, value in zip(names, joined, strict=True))
        yield format_answer(task.constraints, joined, names, lines)


def _name_all(task: TextTask, values: Sequence[str]) -> Sequence[str]:
    return [task.slots[0].name] if len(values) == 1 else ()


def _list_values(slot: Slot, text: str) -> Iterator[list[str]]:
    """Yield what can fill a slot: all spans of its type if several are asked for, else each of them; or that there is none."""
    spans = find_spans(text, slot.kind)
    if slot.is_plural and slot.kind != "phrase" and spans:
        yield spans
        return
    yield from ([span] for span in spans)
    if not spans or slot.kind == "phrase":
        yield [NOT_STATED]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, verbatim."""
    sentences: list[str] = []
    for part in _SENTENCE_END.split(text.strip()):
        if sentences and _ABBREVIATION.search(sentences[-1]):
            sentences[-1] += f" {part}"
        elif part and part.strip():
            sentences.append(part.strip())
    return sentences


def _list_summaries(task: TextTask) -> Iterator[str]:
    """Yield one sentence each, or as many in their order as are demanded; shorter parts of them if a limit leaves none."""
    sentences = split_sentences(task.text)
    if len(sentences) > MAX_SENTENCES:
        sentences = [*sentences[: MAX_SENTENCES - 2], *sentences[-2:]]
    values = {each.kind: each.value for each in task.constraints}
    is_list = any(kind in values for kind in ("bullets", "numbered", "lines"))
    n = min(int(str(values.get("max_sentences") or (3 if is_list else 1))), len(sentences), 3)
    limits = [each for each in task.constraints if each.kind in ("max_words", "n_words")]
    chosen = [group for group in combinations(sentences, n) if are_met(limits, " ".join(group))]
    chosen = (
        chosen
        or [(part,) for part in _list_clauses(sentences) if are_met(limits, part)]
        or [(each,) for each in sentences]
    )
    for group in islice(chosen, MAX_ANSWERS):
        yield format_answer(task.constraints, group, (), "" if is_list or "json" in values else " ".join(group))


def _list_clauses(sentences: Sequence[str]) -> Iterator[str]:
    """Yield the beginnings of sentences up to a clause's end, as sentences."""
    for sentence in sentences:
        for match in _CLAUSE.finditer(sentence):
            if count_words(sentence[: match.start()]) > 2:
                yield sentence[: match.start()].rstrip(" ,;:–—") + "."
