"""List the arguments that a search for the last question can have: names in it and before it, facets of them, comparisons, words.

In: a conversation that ends with the user's question. Out: candidate arguments of search_docs, so that the right one is chosen by
the model's score and never spelled. Forms: `numpy.sum`, `numpy.sum: axis`, `numpy.sum: returns`, `numpy.sum; numpy.prod`, and for
a task the content words of the question in their order (`extract_content_words`, the one rule that training uses too).
Needs the standard library only. Time: O(characters of the question); at most MAX_ARGUMENTS candidates.

Covers: a follow-up's name (the last cited title; `in scipy?`, `what about prod?`, `the second one`), facets in English and by
their most usual words in German, French and Spanish. Does not cover: what no earlier turn of the conversation names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, combinations, islice, pairwise
from typing import NamedTuple

from model.grounding.answers import parse_passages, parse_quotes
from model.grounding.constraints import remove_demands
from model.grounding.matching import ALIASES, is_about, is_identifier, split_facet, split_queries
from model.tokenizer.chat import Message

MAX_ARGUMENTS = 160
MAX_CHARS = 2_000  # of a question that are read, half from each end
MAX_NAMES = 4  # of the question, and of the turns before it
MAX_PLAIN = 8  # plain words of the question
MAX_WORDS = 16  # of a search in words
MAX_ARGUMENT_CHARS = 200
MIN_TASK_WORDS = 3  # content words of a question that describes something instead of naming it
# fmt: off
STOP_WORDS = frozenset(re.findall(
    r"\S+",
    "a about again am an and any anybody anyone are as at be because been being but by can could cool did do does doing done "
    "each either else ever find for from get give go good got great had has have having hello help her here hey hi how i i'd "
    "i'll i'm i've if in into is isn't it it's its just know let let's lets like looking look many may me mean might mine more "
    "most much must my myself need needs now of off ok okay on one ones only or other our out over own pls please quick "
    "quickly really right say see seen should show so some somebody someone something such tell than thank thanks that "
    "that's the their them then there these they thing things this those thus to too try trying up upon us use used using "
    "very via want wanted was way we well were what what's whatever when where which while who whom whose why will wish with "
    "wonder would yes yet you you're your",
))
# Words of questions that say nothing about the task: they are dropped from searches in words, though they may be names elsewhere.
_LEAD_INS = re.compile(
    r"\b(?:(?:is|are) there (?:an?y?|some)?|which|what|an?y?|the|some|best|easiest|simplest|fastest|proper|python(?:'s)?)\s+"
    r"(?:(?:best|easiest|simplest|fastest|proper|python|built-?in|standard) )*"
    r"(?:function|method|way|tool|module|class|command|call|thing|library|package)s?"
    r"(?:\s+(?:to|that|which|for|of|in|lets|can|does|do|is))?\b",
    re.IGNORECASE,
)
FACETS: dict[str, re.Pattern[str]] = {
    name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for name, words in {
        "parameters": "arg|args|arguments?|params?|parameters?|kwargs|keywords?|options?|inputs?|takes?|accepts?|expects?|pass|"
                      "parametern?|argumente|paramètres|parámetros?|argumentos?|argomenti|parametri|parâmetros?",
        "returns": "returns?|returned|return value|outputs?|results?|gives? back|get back|comes? back|yields?|type|"
                   "zurück|rückgabe\\w*|renvoie|retourne|devuelve|retorna|restituisce",
        "raises": "raises?|raised|errors?|exceptions?|throws?|fails?|go wrong|fehler|ausnahmen?|erreurs?|lève|errores|lanza",
        "examples": "examples?|e\\.g|usage|sample|snippet|demo|demonstrate|code|in action|beispiele?|"
                    "exemples?|ejemplos?|esempio|exemplos?",
        "signature": "signature|called|call|defaults?|declaration|prototype|signatur|firma",
        "notes": "notes?|caveats?|remarks?|warnings?|gotchas?|careful",
    }.items()
}
MODULES = frozenset(re.findall(
    r"\w+",
    "numpy scipy torch pandas polars sklearn sqlalchemy matplotlib networkx sympy mlflow prefect numba pydantic hypothesis pyarrow "
    "fsspec rich prompt_toolkit datasketch abc argparse array ast asyncio base64 bisect builtins bz2 calendar cmath codecs "
    "collections concurrent configparser contextlib copy csv ctypes dataclasses datetime decimal difflib dis email enum errno "
    "fractions ftplib functools gc getpass glob gzip hashlib heapq hmac html http importlib inspect io ipaddress itertools json "
    "keyword locale logging lzma math mimetypes multiprocessing numbers operator os pathlib pickle pkgutil platform pprint "
    "queue random re sched secrets select shelve shlex shutil signal smtplib socket sqlite3 ssl stat statistics string struct "
    "subprocess symtable sys sysconfig tarfile tempfile textwrap threading time timeit tkinter token tokenize tomllib trace "
    "traceback turtle types typing unicodedata unittest urllib uuid venv warnings wave weakref webbrowser xml zipfile zlib "
    "str list dict set tuple int float bytes",
)) | set(ALIASES.values())
# fmt: on
_ASCII_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_TOKEN = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_WORD = re.compile(r"[^\s\"“”„«»‘()\[\]{}<>]+")
_COMPARISON = re.compile(
    r"\b(?:differences?|differs?|differ|different|differently|versus|vs|or|compare[ds]?|comparison|better|between|instead|rather|"
    r"faster|unlike|both|same|similar|unterschied\w*|oder|différences?|ou|diferencias?|differenza|diferença|and|und|et|y|e|o)\b",
    re.IGNORECASE,
)
# Words that name a facet or the comparison itself, never a parameter.
_ABOUT = re.compile(
    r"arguments?|params?|parameters?|keywords?|returns?|returned|raises?|raised|exceptions?|examples?|signature|defaults?|notes?|takes?|"
    r"accepts?|expects?|called|usage|snippet|sample|meaning|values?|argumente|argumentos?|argomenti|beispiele?|exemples?|ejemplos?|esempio",
    re.IGNORECASE,
)
_TASK = re.compile(r"\bhow (?:do|can|could|would|should|to|does one)\b|\b(?:way|want|need|trying) to\b", re.IGNORECASE)
_EDGE = " \t\n.,;:!?¿¡'’`*"
_ABBREVIATIONS = frozenset({"e.g", "i.e", "a.k.a", "p.s"})
_NUMBERS = {"first": 0, "1st": 0, "second": 1, "2nd": 1, "other": 1, "last": -1, "third": 2, "3rd": 2}
_SOURCE = re.compile(
    r"\b(?:where|which (?:page|document|file|source|section))\b.{0,40}\b(?:from|come|comes|came|say|says|said|written|find|found|"
    r"get|got|stand|stands|read)\b|\b(?:your|the|what|what's|whats|give|show|cite|name)\b.{0,20}\b(?:source|sources|citation|reference)\b"
    r"(?:\W*$| (?:of|for) (?:that|this|it)\b)|"
    r"^\W*(?:source|sources|citation|reference)\W*$|\bhow do you know\b",
    re.IGNORECASE | re.DOTALL,
)


class Topics(NamedTuple):
    """What earlier turns are about, newest first: names (without facets), and the arguments of searches in words."""

    names: list[str]
    words: list[str]
    numbered: list[str]  # what `the second one` counts: the halves of the last comparison, else the last cited titles


def list_arguments(messages: Sequence[Message]) -> list[str]:
    """Return candidate arguments for the user's last message, likely ones first."""
    question = read_question(messages)
    names, plain = find_names(question), find_plain_words(question)
    topics = find_topics(messages[:-1])
    facets = [name for name, pattern in FACETS.items() if pattern.search(question)]
    parameters = [*(name for name in names if "." not in name), *_list_parameters(plain)]
    alone = _keep_lone_names(plain, question)
    subjects = list(dict.fromkeys([*names, *topics.names[:MAX_NAMES]]))
    candidates = chain(
        names,
        [join_module(first, second) for first, second in _pair_modules(question)],
        (f"{name}: {facet}" for name in subjects for facet in [*facets, *parameters] if facet != name),
        _list_follow_ups(question, [*names, *plain], topics),
        _compare(question, [*names, *plain], topics),
        topics.names[:MAX_NAMES],
        [extract_content_words(question), *([] if names else [_trim(question)])],
        alone,
        (f"{word}: {facet}" for word in alone for facet in facets),
    )
    fitting = (each for each in candidates if each and len(each) <= MAX_ARGUMENT_CHARS and "\n" not in each)
    return list(islice(dict.fromkeys(fitting), MAX_ARGUMENTS))


def read_question(messages: Sequence[Message]) -> str:
    """Return the text of the last message, without the middle of a very long one and demands on the answer's form."""
    text = messages[-1].text if messages else ""
    return remove_demands(text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS // 2]}\n{text[-MAX_CHARS // 2 :]}")


def find_names(question: str) -> list[str]:
    """Return the identifiers in a question as typed, without quotation marks and parentheses: `numpy.sum`, `read_csv`."""
    tokens = (token for token in _split_tokens(question) if token.lower() not in _ABBREVIATIONS)
    quoted = re.findall(r"[`'‘\"]([^\W\d][\w.]*?)(?:\(\))?[`'’\"]", question)
    called = re.findall(r"([^\W\d][\w.]*)\(", question)
    marked = {*quoted, *called}
    return list(dict.fromkeys(token for token in tokens if is_identifier(token) or token in marked))[:MAX_NAMES]


def _split_tokens(question: str) -> list[str]:
    """Return the names and words of a question. In scripts without spaces, a name is the run of ASCII characters."""
    parts = ([token] if token.isascii() else [token, *_ASCII_NAME.findall(token)] for token in _TOKEN.findall(question))
    return [token for part in parts for token in part]


def find_plain_words(question: str) -> list[str]:
    """Return the words of a question that could be a name or a parameter though they look like any word: `norm`, `axis`."""
    names = set(find_names(question))
    tokens = dict.fromkeys(token for token in _split_tokens(question) if token not in names)
    return [token for token in tokens if token.lower() not in STOP_WORDS and len(token) > 1][:MAX_PLAIN]


def find_topics(messages: Sequence[Message]) -> Topics:
    """Return what the turns before a question are about: cited titles first, then what was searched for, then what was found."""
    names, words, numbered = list[str](), list[str](), list[str]()
    for number in range(len(messages) - 1, -1, -1):
        message = messages[number]
        if message.role == "assistant" and message.call is None:
            titles = [split_facet(quote.title).name for quote in parse_quotes(message.text)]
            names += titles
            numbered = numbered or titles
        elif message.call is not None and message.call.name == "search_docs":
            queries = split_queries(_read_argument(message))
            halves = [split_facet(query).name for query in queries]
            names += [half for half in halves if not any(map(str.isspace, half))]
            words += [half for half in halves if any(map(str.isspace, half))]
            numbered = halves if len(halves) > 1 and number + 3 >= len(messages) else numbered
        elif message.role == "tool" and len(names) < MAX_NAMES:
            titles = [split_facet(passage.title).name for passage in parse_passages(message.text)]
            names += titles
            numbered = numbered or titles
    return Topics(_drop_aliases(names), list(dict.fromkeys(words)), list(dict.fromkeys(numbered)))


def _drop_aliases(names: Sequence[str]) -> list[str]:
    """Return names in their order, without those that an earlier one answers: np.sum after numpy.sum."""
    kept: list[str] = []
    for name in names:
        if not any(is_about(other, name) for other in kept):
            kept.append(name)
    return kept


def _read_argument(message: Message) -> str:
    try:
        return message.call.argument if message.call else ""
    except ValueError:  # a foreign history may have other arguments
        return ""


def extract_content_words(question: str) -> str:
    """Return the words of a question that describe what is wanted, in their order and as typed; all words if no other is left.

    `How do I sort a list by two keys?` → `sort list two keys`. Training and serving search with the result.
    """
    words = [word.strip(_EDGE) for word in _WORD.findall(question)]
    words = [word for word in words if word]
    kept = [word.strip(_EDGE) for word in _WORD.findall(_LEAD_INS.sub(" ", question))]
    content = [word for word in kept if word and word.lower().replace("’", "'") not in STOP_WORDS]
    return " ".join((content or words)[:MAX_WORDS])


def asks_for_source(question: str) -> bool:
    """Return whether a question asks where the last answer comes from."""
    return len(question) <= 120 and _SOURCE.search(question) is not None and not find_names(question)


def join_module(module: str, name: str) -> str:
    """Return `scipy.inv` for scipy and numpy.linalg.inv: the module with the last part of a name."""
    return f"{module}.{name.rpartition('.')[2]}"


def join_sibling(name: str, sibling: str) -> str:
    """Return `numpy.prod` for numpy.sum and prod: a name typed without a dot gets the module of another."""
    module = name.rpartition(".")[0]
    return f"{module}.{sibling}" if module and "." not in sibling else sibling


def _keep_lone_names(plain: Sequence[str], question: str) -> list[str]:
    """Return the plain words that a question may be about alone: of a question in many words no common word, of a task none."""
    if len(extract_content_words(question).split()) < MIN_TASK_WORDS:
        return list(plain)
    return [] if _TASK.search(question) else [word for word in plain if word in MODULES]


def _list_parameters(plain: Sequence[str]) -> list[str]:
    """Return the plain words that can be the name of a parameter: not those that name a facet or a comparison."""
    return [word for word in plain if not any(pattern.fullmatch(word) for pattern in (_ABOUT, _COMPARISON))]


def _pair_modules(question: str) -> Iterator[tuple[str, str]]:
    """Yield a module and the word after it: `numpy sum` is numpy.sum."""
    tokens = _TOKEN.findall(question)
    for first, second in pairwise(tokens):
        if first in MODULES and "." not in second and second.lower() not in STOP_WORDS:
            yield first, second


def _list_follow_ups(question: str, typed: Sequence[str], topics: Topics) -> Iterator[str]:
    """Yield the arguments of questions that need an earlier turn."""
    lowered = question.lower()
    facets = [name for name, pattern in FACETS.items() if pattern.search(question)]
    for word, number in _NUMBERS.items():
        if -1 <= number < len(topics.numbered) and topics.numbered and re.search(rf"\b{word}\b", lowered):
            yield topics.numbered[number]
            yield from (f"{topics.numbered[number]}: {facet}" for facet in facets)
    for module in (word for word in typed if word in MODULES):
        yield from (join_module(module, name) for name in topics.names[:MAX_NAMES])
        yield from (f"{words} {module}" for words in topics.words[:1])
    yield from (
        join_sibling(name, word) for name in topics.names[:2] for word in _list_parameters(typed) if word not in MODULES
    )
    yield from topics.words[:1]


def _compare(question: str, typed: Sequence[str], topics: Topics) -> Iterator[str]:
    """Yield comparisons: of two names in the question, and of the last topic with one."""
    words = list(islice(_list_parameters(typed), 6))
    if _COMPARISON.search(question) is None and len(find_names(question)) < 2:
        return
    yield from (f"{first}; {second}" for first, second in combinations(words, 2))
    for name in topics.names[:2]:
        yield from (f"{name}; {word}" for word in words)
        yield from (f"{name}; {join_sibling(name, word)}" for word in words)
        yield from (f"{name}; {join_module(word, name)}" for word in typed if word in MODULES)


def _trim(question: str) -> str:
    """Return the question without the stop words and punctuation at both ends: a title of prose is asked for word by word."""
    words = question.split()
    is_stop = [word.strip(_EDGE).lower() in STOP_WORDS or not word.strip(_EDGE) for word in words]
    kept = [number for number, stop in enumerate(is_stop) if not stop]
    return " ".join(words[kept[0] : kept[-1] + 1]).strip(_EDGE) if kept else ""
