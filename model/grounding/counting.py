"""Find the calls of count_text and spell_text that a message certainly asks for: counting and spelling need no judgment.

In: a message such as `How many r's are in strawberry?`, `Count the words in "…"`, `Spell necessary backwards`. Out: the call, with
an argument that copies what was typed: `letter "r" in strawberry`, `words in the quick fox`, `backwards necessary`. Needs the
standard library only. Time: O(characters).

Covers: letters, one letter, vowels, characters, words, one word, sentences, lines, items of an enumeration; spelling out,
reversing, changing case, sorting words. A single word may be unmarked; other texts are quoted, or after a colon or a line break.
Does not cover: syllables; questions about code (`how many elements are in a list`), which are searched for.
"""

from __future__ import annotations

import re

from model.grounding.constraints import remove_demands
from model.grounding.given_texts import GivenText, split_given_text
from model.tokenizer.chat import ToolCall

MAX_CHARS = 8_000
OF_WORDS = ("letters", "vowels", "consonants", "characters")  # are counted in a single word without a mark
_Q = "[\"'`“”‘’„«»]"
_WORD = r"[^\W\d_]+(?:[-'’][^\W\d_]+)*"
_CODE = re.compile(
    r"\b(?:python|code|program|list of|data ?frame|array|column|numpy|pandas|function|method|regex|dict(?:ionary)?|file|"
    r"variable|string in|a string|the string|in a (?:list|text|word|sentence|file))\b|\w\.\w+\(|"
    r"how (?:do|can|would|should) (?:I|you|we) (?!spell)",
    re.IGNORECASE,
)
_HOW_MANY = (
    r"(?:how many|count(?: up)?(?: how many| the(?: number of)?| all(?: the)?)?|(?:the )?(?:total )?number of|"
    r"what is the number of)"
)
_UNITS = {
    "letter": "letters", "character": "characters", "word": "words", "sentence": "sentences", "line": "lines",
    "vowel": "vowels", "consonant": "consonants", "item": "items", "element": "items", "name": "items",
    "entr": "items", "thing": "items",
}  # fmt: skip
_IN = r"(?:(?:are|is|do|does|there|it|have|has|contain|occur|appear|we have|you see|you count|in|of|within|inside)\s+)*"
_ONE = re.compile(
    rf"{_HOW_MANY} (?:times (?:does |do |is |the )*)?(?:letters? |characters? )?"
    rf"{_Q}?(?P<one>\w){_Q}?(?:['’]?s{_Q}?)?(?: letters?)? "
    r"(?:are |is |do |does |there |occur\w* |appear\w* |you (?:see|find|count) |used )*in\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_LETTER = re.compile(
    rf"(?:how often|{_HOW_MANY} times) (?:does |do |is )?"
    rf"(?:the )?(?:letter |character )?{_Q}?(?P<one>\w){_Q}? (?:appear|occur|used|come up|show up)s? in\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_TIMES = re.compile(
    rf"(?:how often|{_HOW_MANY} times) (?:does |do |is )?"
    rf"(?:the )?(?:word )?{_Q}(?P<one>[\w'-]{{2,30}}){_Q} (?:appear|occur|used|come up|show up)s? in\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_COUNT = re.compile(
    rf"{_HOW_MANY} (?:different )?"
    r"(?P<unit>letter|character|word|sentence|line|vowel|consonant|item|element|name|entr|thing)(?:s|ies|y)?\b(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_LENGTH = re.compile(rf"(?:how long is|length of) the word (?P<rest>{_Q}?{_WORD}{_Q}?)\W*$", re.IGNORECASE)
_SINGLE = re.compile(
    rf"(?:the )?(?:word|name|term)?\s*{_Q}?(?P<word>{_WORD}){_Q}?\s*(?:have|has|contain|got)?\W*$", re.IGNORECASE
)
_SPELL = re.compile(
    r"^(?:please |can you |could you |how (?:do|would|should) (?:you|I|we) |how to |how is |tell me how to )*"
    r"spell(?:ed)?(?: out)?(?: the word| me)? "
    rf"{_Q}?(?P<word>{_WORD}){_Q}?(?P<back>(?: in reverse| backwards?)?)(?: for me| please|,? letter by letter| out)*\W*$",
    re.IGNORECASE,
)
_SPELLED = re.compile(rf"^(?:how is )?{_Q}?(?P<word>{_WORD}){_Q}? (?:is )?spelled(?: how)?\W*$", re.IGNORECASE)
_CHANGES: dict[str, re.Pattern[str]] = {
    "backwards": re.compile(r"\b(?:reverse|backwards?|in reverse(?: order)?|mirror)\b", re.IGNORECASE),
    "upper": re.compile(
        r"\b(?:in(?:to)?|to|all) (?:all )?(?:upper ?-?case|capitals?|capital letters|caps)\b|\bcapitali[sz]e\b|\buppercase\b",
        re.IGNORECASE,
    ),
    "lower": re.compile(
        r"\b(?:in(?:to)?|to|all) (?:all )?(?:lower ?-?case|small letters)\b|\blowercase\b", re.IGNORECASE
    ),
    "sorted": re.compile(r"\balphabetical(?:ly)?\b|\ba to z\b|\bin alphabetic order\b", re.IGNORECASE),
}
_CHANGE = re.compile(
    r"^(?:please |can you |could you )*(?:write|put|turn|convert|change|reverse|make|say|type|repeat|sort|order|arrange|list|"
    r"uppercase|lowercase|capitali[sz]e|spell|what is|what's|rewrite)\b",
    re.IGNORECASE,
)  # fmt: skip
_ONE_WORD = re.compile(
    rf"(?:the word|word)? ?{_Q}?(?P<word>{_WORD}){_Q}? "
    r"(?:backwards?|in reverse|in (?:all )?(?:capitals|caps|uppercase|lowercase))\W*$"
    rf"|^reverse (?:the word )?{_Q}?(?P<other>{_WORD}){_Q}?\W*$",
    re.IGNORECASE,
)


def find_text_call(message: str) -> ToolCall | None:
    """Return the call of count_text or spell_text that a message asks for; None if it asks for something else."""
    text = message.strip()
    if not text or len(text) > MAX_CHARS:
        return None
    for asked in dict.fromkeys((text, remove_demands(text))):  # … Only the number.
        if argument := _find_count(asked):
            return ToolCall.of("count_text", argument)
        if argument := _find_spelling(asked):
            return ToolCall.of("spell_text", argument)
    return None


def _find_count(message: str) -> str:
    given = split_given_text(message)
    instruction = given.instruction if given is not None and given.is_marked else message
    if _CODE.search(instruction):
        return ""
    for pattern, name in ((_LETTER, "letter"), (_TIMES, "word"), (_ONE, "letter")):
        if match := pattern.search(instruction):
            target = _find_target(given, match["rest"])
            return f'{name} "{match["one"]}" in {target}' if target else ""
    if match := _LENGTH.search(message):
        target = _find_target(given, match["rest"])
        return f"letters in {target}" if target else ""
    match = _COUNT.search(instruction)
    if match is None:
        return ""
    unit = _UNITS[match["unit"].lower()]
    rest = re.sub(rf"^{_IN}", "", match["rest"].strip(), flags=re.IGNORECASE)
    target = _find_target(given, rest if unit in OF_WORDS else "")
    is_enumeration = unit != "items" or "," in target or "\n" in target
    return f"{unit} in {_join_lines(target)}" if target and is_enumeration else ""


def _find_target(given: GivenText | None, rest: str) -> str:
    """Return the marked text of a message, else the single word that is left of it; empty if there is neither."""
    if given is not None and given.is_marked:
        return _join_lines(given.text)
    single = _SINGLE.match(rest.strip())
    return single["word"] if single else ""


def _find_spelling(message: str) -> str:
    if match := _SPELL.match(message):
        return f"{'backwards' if match['back'] else 'letters'} {match['word']}"
    if match := _SPELLED.match(message):
        return f"letters {match['word']}"
    given = split_given_text(message)
    if given is not None and given.is_marked:
        instruction, target = given.instruction, given.text
    else:
        single = _ONE_WORD.search(message)
        if single is None:
            return ""
        instruction, target = message, single["word"] or single["other"]
    change = next((name for name, pattern in _CHANGES.items() if pattern.search(instruction)), "")
    is_plain = _CHANGE.match(instruction) is not None and not _CODE.search(instruction)
    return f"{change} {_join_lines(target)}" if change and is_plain else ""


def _join_lines(text: str) -> str:
    return text.strip().replace("\n", " ⏎ ")
