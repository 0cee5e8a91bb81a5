"""List the calls one of which a message certainly asks for, so that no model has to decide whether to call a tool.

In: the messages of a conversation, and a function that looks a query up in the index. Out: candidate calls of one tool; none where
judgment is needed. Certain are

    a name that the documentation has: as typed, by an alias, in other case, inherited, misspelled below a known module; with its
    parameter or the part of its documentation that the question names, if there is one; two names in a comparison
    a short follow-up to a name: a parameter of it (`and kernel?`), a part (`its arguments?`), a sibling (`and prod?`), the same in
    another package (`and in scipy?`), the second of two
    a calculation that is the whole message, apart from words such as `what is` and `please`
    an amount with a unit and the unit to convert it to, in a short message; another amount after a conversion (`and 10?`)
    letters, words or items of a text to count, a word to spell, a text to write in capitals
    two dates, a date and a number of days, or a date and a word for its weekday, in a short message

Everything is checked against the index before it is certain. Where several candidates are left, the model chooses; of a calculation
the likeliest form is taken, which is right more often than the choice of a small model. Needs the standard library only. Time:
O(characters), and some searches by name, 0.1 ms each, 5 ms for a misspelled one.

Does not cover: questions in words, small talk. Those are what the model is trained for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from model.grounding.answers import parse_passages
from model.grounding.arguments import (
    FACETS,
    MODULES,
    Topics,
    extract_content_words,
    find_names,
    find_plain_words,
    find_topics,
    join_module,
    join_sibling,
    read_question,
)
from model.grounding.calculations import split_expression
from model.grounding.counting import find_text_call
from model.grounding.matching import is_identifier, split_queries
from model.grounding.measures import (
    is_conversion,
    is_date_question,
    list_conversions,
    list_date_expressions,
    remove_dates,
)
from model.grounding.text_tasks import read_text_task
from model.tokenizer.chat import Message, ToolCall


class LookedUp(NamedTuple):
    """How the index knows the name in a query (model.retrieval.naming.names), and the title that is shown for it, with the
    parameter or facet that was found, and the text; all empty if it knows none."""

    how: str = ""
    title: str = ""
    text: str = ""


LookUp = Callable[[str], LookedUp]

SEARCH_TOOL = "search_docs"
MAX_WORDS = 25  # of a message with units or dates: a longer one is a story
MAX_FOLLOW_UP_WORDS = 9
MAX_FOLLOW_UP_CONTENT = 2  # words beside those that every follow-up may have
MIN_MODULE_SIMILARITY = 0.8  # of a misspelled module: tourch, nump, colections
MAX_LOOKED_UP = 8  # words of a question that may be parameters
DOTTED_WAYS = frozenset({"exact", "alias", "case", "tail", "inherited", "package", "typo"})
# Packages whose names are no other words: the capitalized words beside them are their classes.
PACKAGES = frozenset(
    (
        "numpy",
        "scipy",
        "torch",
        "pandas",
        "sklearn",
        "sqlalchemy",
        "matplotlib",
        "networkx",
        "sympy",
        "numba",
        "pydantic",
    )
)
_CAMEL = re.compile(r"[A-Z].*[a-z].*[A-Z]|[A-Z]{2}[a-z]|[a-z][A-Z]")  # KMeans, StandardScaler, LinAlgError
PLAIN_WAYS = frozenset({"exact", "alias"})  # of a name without a dot
# Words that ask for a part of the documentation and hardly mean anything else: narrower than arguments.FACETS.
_PARTS = {
    name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for name, words in {
        "parameters": "args|arguments?|params?|parameters?|kwargs|pass to|accepts?|parametern?|argumente|paramètres?|parámetros?|"
        "argumentos?|argomenti|parametri|parâmetros?",
        "returns": "returns?|returned|returning|comes? back|gives? back|get back|result of|renvoie|retourne|devuelve|retorna|"
        "restituisce|rückgabe\\w*",
        "raises": "raises?|raised|errors?|exceptions?|throws?|fehler|ausnahmen?|erreurs?|errores",
        "examples": "examples?|snippets?|sample|usage|demonstrate|demo|code (?:that|with|using|for|sample)|(?:in|working) code|"
        "call to|"
        "beispiele?|exemples?|ejemplos?|esempi|esempio|exemplos?",
        "signature": "signature|signatur|firma",
    }.items()
}
_COMPARES = re.compile(
    r"\b(?:differ\w*|versus|vs|or|compared?|comparison|contrast|between|against|tell apart|instead|same|separates|which one|"
    r"unterschied\w*|oder|différences?|ou|diferencias?|differenza|diferença|and when|mix|unlike|o)\b|/",
    re.IGNORECASE,
)
_MENTIONED = re.compile(  # what a question takes for a parameter: what does x mean, the x argument, the meaning of x
    r"\b(?:meaning of|what (?:does|is)|parameter|argument|option|keyword|value of|set|pass) [`'\"]?([^\W\d]\w*)"
    r"|\b([^\W\d]\w*)[`'\"]? (?:parameter|argument|option|keyword|means?)\b",
    re.IGNORECASE,
)
# A question that goes on with the last one and names its object by a pronoun.
_CONTINUES = re.compile(
    r"^\W*(?:and|now|ok|then|but|what about|how about)\b.*\b(?:it|one|ones|them|that|this)\b", re.IGNORECASE
)
_TASK = re.compile(r"\b(?:how|way to)\b", re.IGNORECASE)
_ECHOES = frozenset(("same", "well"))
_SAME = re.compile(r"\bsame for\b", re.IGNORECASE)  # asks for another one alone
_NUMBERED = {"first": 0, "1st": 0, "second": 1, "2nd": 1, "other": 1, "last": -1, "third": 2}
_FILLERS = frozenset(
    re.findall(
        r"\S+",
        "about actually again all also an and any argument arguments args as at back be can code come comes "
        "default do does example examples for from get give gives got have how i in is it its just meaning more "
        "now of ok on one or other out parameter parameters params pass please pls raise raises result return "
        "returned returns sample say show signature snippet so some take takes tell that the then there these "
        "they this to too type usage use used value values version what what's whats when which with work you und "
        "et y e o das der die was ist le la les el los",
    )
)
_AMOUNT_ONLY = re.compile(r"(?:and|what about|how about|now|ok|then)?\s*(?P<number>-?\d[\d,.]*)\s*\??", re.IGNORECASE)
_NUMBER_IN_CALL = re.compile(r"^-?\d[\d,.]*")
_LEAD_INS = frozenset(
    re.findall(
        r"\S+",
        "a about again and answer anyway are as calc calculate can compute could count do does equal equals "
        "evaluate exactly find for from get give gives hello help hey hi how i is it it's itself just kindly know "
        "let's lets mal maybe me mean much need now of ok okay or out please pls plz quick quickly result show so "
        "solve sum tell than thanks that the then this to today total uh um value want was well what what's whats "
        "which with work would you your aus berechne bitte combien cuanto cuánto es fa fait font ist macht quanto "
        "rechne son viel wie ça",
    )
)
_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def list_certain_calls(messages: Sequence[Message], look_up: LookUp) -> list[ToolCall]:
    """Return calls one of which is certainly meant by the last message, likely ones first; none if that takes judgment."""
    question = read_question(messages)
    typed = messages[-1].text if messages else ""
    if call := find_text_call(typed):
        return [call]
    if read_text_task(typed) is not None:
        return []  # what the text says decides
    if any(parse_passages(line[line.find("[") :]) for line in question.split("\n") if "[" in line):
        return []  # it brings passages along
    if arguments := _list_searches(question, messages, look_up):
        return [ToolCall.of(SEARCH_TOOL, argument) for argument in dict.fromkeys(arguments)]
    is_short = len(question.split()) <= MAX_WORDS
    if is_short and is_date_question(question):
        return [ToolCall.of("calculate_date", each) for each in list_date_expressions(question)[:1]]
    if is_short and is_conversion(question):
        return [ToolCall.of("convert_units", each) for each in list_conversions(question)[:1]]
    if call := _repeat_conversion(question, messages):
        return [call]
    expression = find_certain_expression(question)
    return [ToolCall.of("calculator", expression)] if expression else []


def _list_searches(question: str, messages: Sequence[Message], look_up: LookUp) -> list[str]:
    """Return the arguments of searches for names in the question, or for what follows from an earlier turn."""
    names = [known for name in _list_names(question) if (known := _correct(name, look_up))]
    if names:
        return _list_parts(messages, names, look_up)
    if len(question.split()) > MAX_FOLLOW_UP_WORDS:
        return []
    topics = find_topics(messages[:-1])
    follow_ups = list(_list_follow_ups(question, topics, look_up))[:1] if topics.names else []
    return follow_ups or _replace_verb(question, messages)


def _list_names(question: str) -> list[str]:
    """Return the identifiers in a question, and its capitalized words below the one package that it names: `sklearn Ridge`."""
    names = find_names(question)
    plain = [word for word in find_plain_words(question) if word not in names]
    packages = [word for word in plain if word in PACKAGES]
    classes = [word for word in plain if word[0].isupper() and word not in MODULES]
    names += [word for word in plain if _CAMEL.search(word)]
    return [*names, *(f"{packages[0]}.{word}" for word in classes if len(packages) == 1)]


def _correct(name: str, look_up: LookUp) -> str:
    """Return a name that the index knows: as typed, or with a module that was misspelled; empty if it knows neither."""
    found = look_up(name)
    if found.how in (DOTTED_WAYS if "." in name.strip(".") else PLAIN_WAYS):
        return name
    if "." not in name:  # a class by its own name: KMeans
        return name if found.how == "tail" and found.title.endswith(f".{name}") and _CAMEL.search(name) else ""
    head, _, rest = name.partition(".")
    close = difflib.get_close_matches(head, MODULES, n=1, cutoff=MIN_MODULE_SIMILARITY)
    corrected = f"{close[0]}.{rest}" if close and close[0] != head else ""
    return corrected if corrected and look_up(corrected).how in ("exact", "inherited", "package") else ""


def _list_parts(messages: Sequence[Message], names: Sequence[str], look_up: LookUp) -> list[str]:
    """Return the comparison of two names, else the documented parameters and parts that a question about names asks for, else the
    names with everything that it may ask for, from which the model chooses."""
    question = read_question(messages)
    distinct = list({look_up(name).title: name for name in reversed(names)}.values())[::-1]
    text = question
    for name in names:
        text = text.replace(name, " ")
    words = [word for word in (*find_names(text), *find_plain_words(text)) if word.lower() not in _FILLERS]
    words = list(dict.fromkeys(words))[:MAX_LOOKED_UP]
    parts = [part for part, pattern in _PARTS.items() if pattern.search(text)]
    asked = [f"{name}: {word}" for name in distinct for word in words if _has_part(name, word, look_up)]
    asked = asked or [f"{name}: {part}" for name in distinct for part in parts if _has_part(name, part, look_up)]
    unknown = [name for name in find_names(text) if "." in name]
    is_compared = _COMPARES.search(_SAME.sub("", text)) is not None
    plain = [word for word in words if "." not in word and is_compared and look_up(word).how in PLAIN_WAYS]
    compared = [*distinct, *unknown, *(plain if len(distinct) == 1 and not asked else ())]  # list.sort and sorted
    if len(compared) == 1 and is_compared and len(question.split()) <= MAX_FOLLOW_UP_WORDS:
        compared = [*find_topics(messages[:-1]).names[:1], *compared]  # compare it with numpy.prod
    if len(compared) == 2 and (_COMPARES.search(text) or not (asked or unknown)):
        return ["; ".join(compared)]
    instead = [f"{name}: {part}" for name in distinct for part in parts if part in ("parameters", "signature")]
    mentioned = {word for pair in _MENTIONED.findall(text) for word in pair} | {word for word in words if "_" in word}
    parts = [part for part, pattern in FACETS.items() if pattern.search(text)]
    others = [
        f"{name}: {part}" for name in distinct for part in (*parts, *words) if part in FACETS or part in mentioned
    ]
    return asked or instead or [*distinct, *others]


def _has_part(name: str, part: str, look_up: LookUp) -> bool:
    """Return whether the documentation of a name has this facet, an entry for this parameter, or it in the signature."""
    found = look_up(f"{name}: {part}")
    signature = found.text.rpartition(" — ")[2] if " — " in found.text else ""
    is_typed = part not in _PARTS and re.search(rf"[(,] ?\*{{0,2}}{re.escape(part)}(?=[=,):])", signature) is not None
    return found.title.endswith(f": {part}") or is_typed


def _list_follow_ups(question: str, topics: Topics, look_up: LookUp) -> Iterator[str]:
    """Yield what a short question without a name certainly asks about an earlier one, the closest reading first."""
    parts = [name for name, pattern in _PARTS.items() if pattern.search(question)]
    tokens = re.findall(r"[^\W\d]\w*", question)
    words = [word for word in tokens if word.lower() not in _FILLERS][:MAX_LOOKED_UP]
    subject = topics.names[0]
    for word in (word.lower() for word in tokens):
        number = _NUMBERED.get(word, len(topics.numbered))
        if number < len(topics.numbered) and len(topics.numbered) > 1:
            subject, words = topics.numbered[number], [each for each in words if each.lower() != word]
            yield from (f"{subject}: {part}" for part in parts if _has_part(subject, part, look_up))
            yield subject
    n_words = sum(word.lower() not in _ECHOES for word in words)  # more are a question of its own
    for word in words:
        joined = join_module(word, subject)
        if n_words <= MAX_FOLLOW_UP_CONTENT and word in MODULES and _is_in(look_up(joined), word):
            nearer = f"{word}.{subject.partition('.')[2]}"  # scipy.linalg.norm rather than another norm of scipy
            yield nearer if look_up(nearer)[:2] == ("exact", nearer) else joined
        if n_words <= MAX_FOLLOW_UP_CONTENT and _has_part(subject, word, look_up):
            yield f"{subject}: {word}"
        sibling = join_sibling(subject, word)
        if "." in sibling and look_up(sibling)[:2] == ("exact", sibling):
            yield f"{subject}; {sibling}" if _COMPARES.search(_SAME.sub("", question)) else sibling
    if not words:
        yield from (f"{subject}: {part}" for part in parts if _has_part(subject, part, look_up))


def _replace_verb(question: str, messages: Sequence[Message]) -> list[str]:
    """Return the last search in words with another verb, for `and how do I write one?` after a question how to read it."""
    searches = [message.call.argument for message in messages if message.call and message.call.name == SEARCH_TOOL]
    content = extract_content_words(question)
    is_about_last = _CONTINUES.search(question) and _TASK.search(question) and len(content.split()) == 1
    if not searches or not is_about_last or len(split_queries(searches[-1])) != 1 or ":" in searches[-1]:
        return []
    verb, _, objects = searches[-1].partition(" ")
    return [f"{content} {objects}"] if objects and not is_identifier(verb) else []


def _is_in(found: LookedUp, package: str) -> bool:
    return found.how in DOTTED_WAYS - {"typo"} and found.title.startswith(f"{package}.")


def _repeat_conversion(question: str, messages: Sequence[Message]) -> ToolCall | None:
    """Return the last conversion with another amount, if the question is nothing but a number."""
    match = _AMOUNT_ONLY.fullmatch(question.strip())
    calls = [message.call for message in messages if message.call is not None]
    if match is None or not calls or calls[-1].name != "convert_units":
        return None
    return ToolCall.of("convert_units", _NUMBER_IN_CALL.sub(match["number"].rstrip(".,"), calls[-1].argument, count=1))


def find_certain_expression(question: str) -> str:
    """Return the expression that a message is, apart from words such as `what is`; empty if it is more than that."""
    expression, rest = split_expression(remove_dates(question))
    words = {word.lower().replace("’", "'") for word in _LETTERS.findall(rest)}
    return expression if words <= _LEAD_INS and not re.search(r"\d", rest) else ""
