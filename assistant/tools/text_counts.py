"""Count in a text and spell it: text in, one line out, or `error: …`. A model that reads tokens sees no letters; code does.

In: `letter "r" in strawberry`, `letters in …`, `words in …`, `word "the" in …`, `vowels`, `consonants`, `characters`, `sentences`,
`lines`, `items in a, b and c`. Out: `letter "r" in strawberry = 3`. Upper and lower case are the same letter.
In: `letters necessary`, `backwards …`, `upper …`, `lower …`, `sorted b, a, c`. Out: the changed text, `n-e-c-e-s-s-a-r-y`.

Covers: Unicode by characters as people see them (a letter with combining accents is one). A line break is written ` ⏎ `. Does not
cover: syllables, languages without spaces (their words are not counted right). Time: O(characters).
"""

from __future__ import annotations

import re
import unicodedata

from model.grounding.answers import LINE_BREAK
from model.grounding.constraints import count_sentences, count_words, split_names

MAX_SHOWN = 60  # characters of a counted text that the result repeats
COUNTED = "letters, vowels, consonants, characters, words, sentences, lines, items, letter \"x\", word \"the\""  # fmt: skip
CHANGES = "letters, backwards, upper, lower, sorted"
_COUNT = re.compile(r'(?:(?P<kind>letter|word) "(?P<one>[^"]+)"|(?P<unit>[a-z]+)) in (?P<text>.+)', re.DOTALL)
_CHANGE = re.compile(r"(?P<change>[a-z]+) (?P<text>.+)", re.DOTALL)
_VOWELS = frozenset("aeiou")


def count_text(argument: str) -> str:
    """Count in a text, as in `letter "r" in strawberry` or `words in …`. Return `argument = number`, or `error: ` and the reason.

    Never raises.
    """
    match = _COUNT.fullmatch(argument.strip())
    if match is None:
        return f"error: {argument[:MAX_SHOWN]!r} does not say what to count in what ({COUNTED}, then in and the text)"
    text = match["text"].replace(LINE_BREAK, "\n")
    n = _count_one(match["kind"], match["one"], text) if match["kind"] else _count_unit(match["unit"], text)
    if n is None:
        return f"error: {match['unit']} can't be counted; there are {COUNTED}"
    shown = match["text"] if len(match["text"]) <= MAX_SHOWN else match["text"][: MAX_SHOWN - 1].rstrip() + "…"
    return f"{argument.strip()[: match.start('text')]}{shown} = {n}"


def spell_text(argument: str) -> str:
    """Change a text, as in `letters necessary`, `backwards hello`, `upper …`, `sorted pear, fig`. Return the changed text, or
    `error: ` and the reason.

    Never raises.
    """
    match = _CHANGE.fullmatch(argument.strip())
    text = match["text"] if match else ""
    change = match["change"] if match else ""
    if change == "letters":
        return " ".join("-".join(split_characters(word)) for word in text.split())
    if change == "backwards":
        return "".join(reversed(split_characters(text)))
    if change in ("upper", "lower"):
        return text.upper() if change == "upper" else text.lower()
    if change == "sorted":
        names = split_names(text) if "," in text else tuple(text.replace(LINE_BREAK, " ").split())
        return ", ".join(sorted(names, key=lambda name: (name.casefold(), name)))
    return f"error: {argument[:MAX_SHOWN]!r} does not say how to write what ({CHANGES}, then the text)"


def split_characters(text: str) -> list[str]:
    """Return the characters as people see them: accents that combine, joiners and variants belong to the one before."""
    characters: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        is_joined = bool(characters) and (
            unicodedata.combining(character) > 0 or character in "\u200d\ufe0f" or characters[-1][-1] == "\u200d"
        )
        if is_joined:
            characters[-1] += character
        else:
            characters.append(character)
    return characters


def _count_one(kind: str, one: str, text: str) -> int:
    if kind == "letter":
        return sum(_fold(character) == _fold(one) for character in split_characters(text))
    return len(re.findall(rf"(?<!\w){re.escape(one)}(?!\w)", text, re.IGNORECASE))


def _count_unit(unit: str, text: str) -> int | None:
    characters = split_characters(text)
    letters = [character for character in characters if character[0].isalpha()]
    counts = {
        "characters": len(characters),
        "letters": len(letters),
        "vowels": sum(_is_vowel(letter) for letter in letters),
        "consonants": sum(not _is_vowel(letter) for letter in letters),
        "words": count_words(text),
        "sentences": count_sentences(text),
        "lines": len([line for line in text.split("\n") if line.strip()]),
        "items": len(
            [part for part in re.split(r"\s*[,;\n]\s*(?:and |or )?|\s+(?:and|or)\s+", text.strip(" .")) if part.strip()]
        ),
    }
    return counts.get(unit)


def _fold(character: str) -> str:
    return unicodedata.normalize("NFC", character).casefold()


def _is_vowel(letter: str) -> bool:
    return unicodedata.normalize("NFD", letter)[0].lower() in _VOWELS
