"""Read a text as a person would who sees through its disguise: folded characters, and copies that are decoded.

In: a text from anywhere. Out: the readings that are classified, the plain one first. Folding undoes compatibility forms, accents,
look-alike letters of other scripts, invisible characters, digits in the place of letters (`b0mb`) and spaced letters (`b o m b`);
a word like `sha256`, whose digits come last, stays as it is. Copies are decoded from base64, hexadecimal, percent and character
escapes, and from ROT13 or reversed text where that has more likely pairs of letters. Time: linear; each decoding halves the text
at least, and at most `MAX_COPIES` copies are read.

Covers: the disguises of public jailbreak collections. Does not cover: ciphers with a key, other languages, meaning that is
spread over several messages.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from urllib.parse import unquote

MAX_CHARS = 200_000  # of a text that is read; more is cut into windows by the caller anyway
MAX_COPIES = 8
MAX_TRIES = 24  # of copies, equal ones included
MAX_DEPTH = 2  # of encodings within encodings
MIN_ENCODED_CHARS = 12
MIN_LETTER_FRAC = 0.7  # of a decoded copy: letters and spaces; random bytes have a fifth
MIN_PAIRS = 8  # of letters, before a cipher is guessed

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e001f\U000e0080-\U000e0fff]"
)
_TAGS = range(0xE0020, 0xE007F)  # "tag" characters, which spell ASCII invisibly
# Letters of other scripts and symbols that look like Latin ones (the frequent ones of Unicode's confusables).
_LOOKALIKES = str.maketrans(
    "абвгдеёзийкмнорстухьіїјѕԁԛԝһӏүАВЕЗКМНОРСТУХІЈЅαβγεζηικμνορτυχωΑΒΕΖΗΙΚΜΝΟΡΤΥΧıɑɡʏʟɪɴʀøđłħŧ",
    "abbrdeezuukmhopctyxbiijsdqwhlyabe3kmhopctyxijsabyezhikmvoptuxwabezhikmnoptyxiagylinrodlht",
)
_LEET = str.maketrans("4@8361!|05$7+9", "aabegiiiosstt" + "g")
_LEET_WORD = re.compile(r"(?<![\w.@$!|+])[a-z0-9@$!|+]{2,40}(?![\w@$!|+])")
_SPACED = re.compile(r"(?<!\w)[^\W\d_](?:([ .\-_*/|,~])[^\W\d_])(?:\1[^\W\d_])+(?!\w)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:(?:0x|\\x)?[0-9a-fA-F]{2}[\s,:]?){8,}")
_ESCAPED = re.compile(r"%[0-9a-fA-F]{2}|&#?\w{2,8};|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}")
_BINARY = re.compile(r"(?:[01]{8}\s?){4,}")
_ROT13 = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM"
)
# The most frequent pairs of letters in English: two thirds of all pairs in English text, a quarter of those of a cipher.
_PAIR_TEXT = """
th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne ea ra ce
li ch ll be ma si om ur ow do yo wh us ac tr ld ke mo no el la et un ta il so ut em ad ee ho wi ot ul id ss ai ge
"""
_PAIRS = frozenset(_PAIR_TEXT.split())
_SMALL_WORDS = re.compile(
    r"\b(?:the|how|to|and|of|you|make|for|is|a|with|me|in|what|that|this|do|can|i|my|it|from|without)\b"
)


def fold_text(text: str) -> str:
    """Return a text in plain lower-case letters, without what only hides its words."""
    if not text.isascii():
        text = "".join(chr(ord(char) - 0xE0000) if ord(char) in _TAGS else char for char in text)
        text = _INVISIBLE.sub("", text)
        text = unicodedata.normalize("NFKD", text.translate(_LOOKALIKES))
        text = "".join(char for char in text if not unicodedata.combining(char)).translate(_LOOKALIKES)
    text = text.lower()
    text = _SPACED.sub(lambda match: match[0].replace(match[1], ""), text)
    return _LEET_WORD.sub(_undo_leet, text)


def _undo_leet(match: re.Match[str]) -> str:
    """Return a word with letters in the place of digits; as it is if digits only end it, like `sha256`."""
    word = match[0].rstrip("!")
    rest = match[0][len(word) :]
    is_mixed = not word.isalpha() and "a" <= word.rstrip("0123456789")[-1:] <= "z"
    return word.translate(_LEET) + rest if is_mixed and not word.rstrip("0123456789").isalpha() else match[0]


def list_readings(text: str) -> list[str]:
    """Return the plain reading of a text, then the readings of its decoded copies; each once."""
    text = text[:MAX_CHARS]
    readings = dict.fromkeys([fold_text(text)])
    for copy in islice(_decode_copies(text, MAX_DEPTH), MAX_TRIES):
        readings.setdefault(fold_text(copy))
        if len(readings) > MAX_COPIES:
            break
    return list(readings)


def _decode_copies(text: str, depth: int) -> Iterator[str]:
    """Yield what a text says in other encodings, and what those say in turn."""
    for copy in _decode_once(text):
        yield copy
        if depth > 1:
            yield from _decode_copies(copy, depth - 1)


def _decode_once(text: str) -> Iterator[str]:
    if _ESCAPED.search(text):
        plain = re.sub(r"\\[ux]([0-9a-fA-F]{4}|[0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)
        plain = html.unescape(unquote(plain, errors="replace"))
        if plain != text:
            yield plain
    for pattern, decode in ((_BINARY, _decode_binary), (_HEX, _decode_hex), (_BASE64, _decode_base64)):
        if any(char.isdigit() or char.isupper() for char in text):
            for match in pattern.finditer(text):
                if (plain := decode(match[0])) is not None:
                    yield plain
    yield from _guess_ciphers(text)


def _decode_base64(text: str) -> str | None:
    data = text.rstrip("=").replace("-", "+").replace("_", "/")
    if len(data) < MIN_ENCODED_CHARS or (data.islower() and data.isalpha()):
        return None
    try:
        return _read_letters(base64.b64decode(data[: len(data) - (len(data) % 4 == 1)] + "=" * (-len(data) % 4)))
    except (binascii.Error, ValueError):
        return None


def _decode_hex(text: str) -> str | None:
    digits = re.sub(r"0x|\\x|[\s,:]", "", text)
    return _read_letters(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _decode_binary(text: str) -> str | None:
    return _read_letters(bytes(int(byte, 2) for byte in re.findall("[01]{8}", text)))


def _read_letters(data: bytes) -> str | None:
    """Return decoded bytes as text; None if they are no text."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    n_letters = sum(char.isalpha() or char == " " for char in text)
    return text if len(text) >= 6 and n_letters >= MIN_LETTER_FRAC * len(text) else None


def _guess_ciphers(text: str) -> Iterator[str]:
    """Yield the text turned by 13 letters, and reversed, where that reads more like English."""
    plain = _measure_english(text)
    if plain is None:
        return
    for copy in (text.translate(_ROT13), text[::-1], " ".join(word[::-1] for word in text.split())):
        score = _measure_english(copy)
        if score is not None and score > plain + 0.1:
            yield copy


def _measure_english(text: str) -> float | None:
    """Return how much a text looks like English: frequent pairs of letters, and small words; None if it is too short to say."""
    lower = text[:2000].lower()
    pairs = Counter(lower[at : at + 2] for at in range(len(lower) - 1) if lower[at : at + 2].isalpha())
    total = sum(pairs.values())
    if total < MIN_PAIRS:
        return None
    n_words = max(len(lower.split()), 1)
    return sum(n for pair, n in pairs.items() if pair in _PAIRS) / total + len(_SMALL_WORDS.findall(lower)) / n_words
