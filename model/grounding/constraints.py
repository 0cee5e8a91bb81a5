"""Read what a message demands of the form of its answer, check a reply against it, and give an answer that form.

In: a message such as `Extract the dates from … as JSON with the keys start and end.` Out: constraints, each of which code can
check (as IFEval's verifiable instructions, Zhou et al. 2023): upper or lower case, at most or exactly N words, at most N
sentences, a bulleted or numbered list, values separated by commas or one per line, JSON with named keys, the value alone,
quotation marks, no commas, a beginning or an end. The assistant, the makers of training examples and the evaluation use the
same checks. Needs the standard library only. Time: O(characters); of a longer message both ends are read.

Covers: demands in English. Does not cover: demands on content or style (`be funny`); a quotation of the documentation, which stays
verbatim, so that only limits on its length apply to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

MAX_CHARS = 1_000  # of a message, from each end
MAX_KEYS = 8
MAX_LIMIT = 10_000
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_N = rf"(?P<n>\d{{1,5}}|a single|{'|'.join(_NUMBERS[1:])})"
_QUOTED = r"[\"“'‘`](?P<text>[^\"”'’`\n]{1,60})[\"”'’`]"
_ANSWER = r"(?:your |the |you )?(?:answer|reply|response|output|it|everything|result|summary)"
_KEY = r"[\"'`]?(?!(?:and|or)\b)[A-Za-z_]\w{0,30}(?: (?!(?:and|or|from|in|of|for|to|at)\b)\w{1,30})?[\"'`]?"
# In the order in which an answer is given its form. `n`, `text` and `keys` are the values.
_PATTERNS: dict[str, tuple[str, ...]] = {
    "json": (
        rf"\bjson\b(?:[^.?!\n]{{0,40}}?\b(?:keys?|fields?|properties)\b:? (?P<keys>{_KEY}(?:, {_KEY})*(?:,? and {_KEY})?))?",
    ),
    "numbered": (r"\bnumbered (?:list|points|lines)\b",),
    "bullets": (r"\bbullet(?:ed|s)?(?: ?-?points?| list)?\b", r"\bas a (?:dashed )?list\b", r"\blist format\b"),
    "lines": (r"\b(?:one|each) (?:\w+ )?(?:per|on its own|on a separate|in its own) line\b", r"\bon separate lines\b"),
    "commas": (r"\bcomma[- ]separated\b", r"\bseparated by commas?\b", r"\bwith commas between\b"),
    "value_only": (
        r"\b(?:only|just|nothing but) (?:give |tell |write |return |say |reply with |answer with )?(?:me )?"
        r"(?:the|a|one) (?:(?P<text>number)|value|answer|result|label|category|name|date|word)\b(?: only)?",
        r"\b(?:the )?(?:(?P<text>number)|value|answer|result|label) only\b",
        r"\bno (?:explanation|other text|extra text|units?)\b",
        r"\bwithout (?:any )?(?:explanation|units?|other text)\b",
    ),
    "n_words": (
        rf"\b(?:in|with|using|use) (?:exactly |just |only )?{_N} words?\b(?! or (?:less|fewer))",
        r"\b(?P<one>one|single)(?:-word\b| word (?:answer|reply|response|label)\b)",
    ),
    "max_words": (
        rf"\b(?:at most|no more than|not more than|up to|max(?:imum)?(?: of)?|a maximum of) {_N} words?\b",
        rf"\b{_N} words? (?:or (?:less|fewer)|at most|max(?:imum)?)\b",
        rf"\b(?P<below>under|fewer than|less than|below) {_N} words?\b",
    ),
    "max_sentences": (
        rf"\b(?:in|with|to|at most|no more than|into) (?:at most |just |only )?{_N} (?:short |single )?sentences?\b",
        rf"\b{_N}-sentence\b",
    ),
    "no_commas": (r"\b(?:no|without(?: any| using)?|do(?:n't| not) use(?: any)?|avoid) commas?\b",),
    "upper": (
        r"\b(?:in|all|use|using|with) (?:all )?(?:-)?(?:capitals?|caps|capital letters|upper ?-?case)(?: letters| only)?\b",
        r"\ball-caps\b",
    ),
    "lower": (
        r"\b(?:in|all|use|using|with) (?:all )?(?:lower ?-?case|small letters)(?: letters| only)?\b",
        r"\b(?:no|without(?: any)?) (?:capitals?|capital letters|upper ?-?case)\b",
    ),
    "quotes": (r"\bin (?:double )?quot(?:es|ation marks)\b", rf"\b(?:wrap|put|enclose) {_ANSWER} in (?:double )?quot"),
    "starts": (rf"\b(?:start|begin)(?:ning|ing|s)? (?:{_ANSWER} )?with (?:the (?:word|phrase|words) )?{_QUOTED}",),
    "ends": (rf"\b(?:end|finish)(?:ing|es|s)? (?:{_ANSWER} )?with (?:the (?:word|phrase|words) )?{_QUOTED}",),
}  # fmt: skip
_COMPILED = {kind: tuple(re.compile(each, re.IGNORECASE) for each in group) for kind, group in _PATTERNS.items()}
LISTS = ("json", "numbered", "bullets", "lines", "commas")
_WORD = re.compile(r"\w+(?:['’.,:/@-]\w+)*")
_SENTENCE = re.compile(r"[.!?…]+[\"')\]”’]*(?=\s|$)")
_BULLET = re.compile(r"[-*•] \S")
_OPENER = re.compile(
    r"(?:please\s+)?(?:answer|reply|respond|return|output|format|write|give|use|keep|make|put|wrap|start|begin|end|finish|"
    r"only|just|no|do not|don't|in|as|at most|all|one|each|be|without|your|and)\b",
    re.IGNORECASE,
)


class Constraint(NamedTuple):
    """One demand: `kind` is a key of CHECKS, `value` its number, text or keys, if it has one."""

    kind: str
    value: int | str | tuple[str, ...] = ""


def read_constraints(message: str) -> tuple[Constraint, ...]:
    """Return the demands of a message, one of each kind at most, in the order in which they are applied."""
    text = message if len(message) <= 2 * MAX_CHARS else f"{message[:MAX_CHARS]} … {message[-MAX_CHARS:]}"
    found: list[Constraint] = []
    for kind, patterns in _COMPILED.items():
        match = next((match for pattern in patterns if (match := pattern.search(text))), None)
        if match is not None and (constraint := _make_constraint(kind, match.groupdict())) is not None:
            found.append(constraint)
            if kind in ("json", "bullets", "numbered"):  # a list in JSON is no list of lines
                text = text[: match.start()] + " " + text[match.end() :]
    kinds = {each.kind for each in found}
    dropped = {"lower"} if "upper" in kinds else set[str]()
    dropped |= set(LISTS) - {next((kind for kind in LISTS if kind in kinds), "")}
    return tuple(each for each in found if each.kind not in dropped)


def _make_constraint(kind: str, groups: Mapping[str, str | None]) -> Constraint | None:
    if kind in ("n_words", "max_words", "max_sentences"):
        n = 1 if groups.get("one") else _read_number(groups.get("n") or "")
        n -= bool(groups.get("below"))
        return Constraint(kind, n) if 0 < n <= MAX_LIMIT else None
    if kind == "json":
        return Constraint(kind, split_names(groups.get("keys") or "")[:MAX_KEYS])
    return Constraint(kind, groups.get("text") or "")


def _read_number(text: str) -> int:
    word = text.lower()
    return 1 if word == "a single" else _NUMBERS.index(word) if word in _NUMBERS else int(word or 0)


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in an enumeration such as `name, due date and "price"`."""
    parts = re.split(r"\s*,\s*(?:and |or )?|\s+and\s+|\s+or\s+|\s*[/|]\s*", text)
    return tuple(dict.fromkeys(name for part in parts if (name := part.strip(" \"'`.:;?!"))))


def remove_demands(message: str) -> str:
    """Return a message without the sentences that only demand a form: `… Answer in one word.` Something is always left."""
    kept: list[str] = []
    for sentence in re.split(r"(?<=[.!?\n])\s+", message.strip()):
        is_demand = _OPENER.match(sentence) is not None and bool(read_constraints(sentence))
        if not kept or not is_demand:
            kept.append(sentence)
    return " ".join(kept)


def count_words(text: str) -> int:
    """Return the number of words of a text; `a@b.org`, `3.5` and `it's` are one each."""
    return len(_WORD.findall(text))


def count_sentences(text: str) -> int:
    """Return the number of sentences of a text; one without punctuation at its end counts."""
    parts = [part for part in _SENTENCE.split(text) if part.strip()]
    return len(parts)


def _has_keys(reply: str, keys: int | str | tuple[str, ...]) -> bool:
    try:
        value: object = json.loads(reply)
    except (ValueError, RecursionError):
        return False
    return not keys or (isinstance(value, dict) and list(value) == list(keys if isinstance(keys, tuple) else ()))  # pyright: ignore[reportUnknownArgumentType]


def _is_list(reply: str, pattern: re.Pattern[str]) -> bool:
    return all(pattern.match(line) for line in reply.split("\n"))


CHECKS: dict[str, Callable[[str, int | str | tuple[str, ...]], bool]] = {
    "json": _has_keys,
    "numbered": lambda reply, _: all(line.startswith(f"{n}. ") for n, line in enumerate(reply.split("\n"), 1)),
    "bullets": lambda reply, _: _is_list(reply, _BULLET),
    "lines": lambda reply, _: _is_list(reply, re.compile(r"\S")),
    "commas": lambda reply, _: "\n" not in reply,
    "value_only": lambda reply, _: " = " not in reply and "\n" not in reply,
    "n_words": lambda reply, n: count_words(reply) == n,
    "max_words": lambda reply, n: count_words(reply) <= int(str(n)),
    "max_sentences": lambda reply, n: count_sentences(reply) <= int(str(n)),
    "no_commas": lambda reply, _: "," not in reply,
    "upper": lambda reply, _: reply == reply.upper(),
    "lower": lambda reply, _: reply == reply.lower(),
    "quotes": lambda reply, _: len(reply) > 1 and reply[0] == reply[-1] == '"',
    "starts": lambda reply, text: reply.lower().startswith(str(text).lower()),
    "ends": lambda reply, text: reply.lower().endswith(str(text).lower()),
}


def is_met(constraint: Constraint, reply: str) -> bool:
    """Return whether a reply meets one demand; an empty reply meets none."""
    return bool(reply.strip()) and CHECKS[constraint.kind](reply.strip(), constraint.value)


def are_met(constraints: Sequence[Constraint], reply: str) -> bool:
    """Return whether a reply meets all demands."""
    return all(is_met(each, reply) for each in constraints)


def format_answer(
    constraints: Sequence[Constraint], values: Sequence[str], names: Sequence[str] = (), sentence: str = ""
) -> str:
    """Return an answer in the demanded form. `values`: what it consists of, `names`: what each is called, `sentence`: the usual
    form, if it is not the values joined by commas. A demand that the values can't meet (two words of one) stays unmet."""
    kinds = {each.kind: each.value for each in constraints}
    if "json" in kinds:
        keys = kinds["json"] if isinstance(kinds["json"], tuple) else ()
        if len(keys) == 1 and len(values) > 1:
            text = json.dumps({keys[0]: list(values)}, ensure_ascii=False)
        elif len(keys or names) == len(values):
            text = json.dumps(dict(zip(keys or names, values, strict=True)), ensure_ascii=False)
        else:
            text = json.dumps(list(values), ensure_ascii=False)
    elif "numbered" in kinds:
        text = "\n".join(f"{number}. {value}" for number, value in enumerate(values, 1))
    elif "bullets" in kinds:
        text = "\n".join(f"- {value}" for value in values)
    elif "lines" in kinds:
        text = "\n".join(values)
    else:
        plain = " ".join(values) if "no_commas" in kinds else ", ".join(values)
        is_short = not sentence or "value_only" in kinds or any(
            each.kind in ("n_words", "max_words", "commas", "no_commas") and not is_met(each, sentence) for each in constraints
        )  # fmt: skip
        text = plain if is_short else sentence
    return _change_characters(text, kinds)


def _change_characters(text: str, kinds: Mapping[str, int | str | tuple[str, ...]]) -> str:
    """Return a text in the demanded case, in quotation marks, with a beginning and an end; the keys of JSON stay as they are."""
    if "upper" in kinds and "json" not in kinds:
        text = text.upper()
    if "lower" in kinds and "json" not in kinds:
        text = text.lower()
    if (start := str(kinds.get("starts", ""))) and not text.lower().startswith(start.lower()):
        text = f"{start} {text}"
    if (end := str(kinds.get("ends", ""))) and not text.lower().endswith(end.lower()):
        text = f"{text} {end}"
    return f'"{text}"' if "quotes" in kinds and not text.startswith('"') else text
