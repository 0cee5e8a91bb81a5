"""Stream the pages of a MediaWiki XML dump.

In: a stream of XML (export format 0.3 to 0.11, any encoding that expat reads: UTF-8, UTF-16 with a byte order mark, …). Out:
one `WikiPage` for each `<page>`, with its last revision, as soon as it is closed. Memory: one page of at most `max_chars`
characters (a longer text is dropped and flagged), independent of the size of the dump. Time: O(n).
Covers (hostile input): document type declarations, and thus all entities that the file defines (refused); elements nested deeper
than `MAX_DEPTH`; a tag of more than `MAX_TAG_BYTES`. Does not cover: a dump of endlessly many pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple
from xml.parsers import expat

BLOCK_BYTES = 1 << 18
MAX_DEPTH = 64
MAX_TAG_BYTES = 8_000_000
SHORT_CHARS = 10_000  # of a title, an id, a name
LONG = "text"
SHORT = frozenset(("title", "ns", "id", "model", "base", "namespace", "alias"))
NAMESPACE_LISTS = ("namespaces", "namespacealiases", "aliases")


class XmlError(Exception):
    """Raised when the rest of a dump cannot be read: it is broken, truncated or refused; `args[0]` is the reason."""


class WikiPage(NamedTuple):
    """One page of a dump; `namespace` is -1 where the dump does not declare it (formats before 0.6)."""

    title: str
    namespace: int
    id: int
    revision: int
    n_revisions: int
    model: str
    is_redirect: bool
    is_too_large: bool
    text: str


@dataclass
class Site:
    """What the head of a dump declares about the wiki."""

    base: str = ""  # the URL of its main page
    language: str = ""  # a code such as `de`
    namespaces: dict[int, str] = field(default_factory=dict[int, str])
    aliases: list[tuple[int, str]] = field(
        default_factory=list[tuple[int, str]]
    )  # further names of namespaces; rarely declared


class Dump:
    """Reads one dump; `site` is known before the first page is yielded."""

    def __init__(self, max_chars: int) -> None:
        self.max_chars = max_chars
        self.site = Site()
        self._path: list[str] = []
        self._closed: list[WikiPage] = []
        self._values: dict[str, str] = {}
        self._namespace = 0
        self._n_revisions = 0
        self._is_redirect = self._is_too_large = False
        self._pieces: list[str] = []
        self._n_left = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.buffer_size = BLOCK_BYTES
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def read_pages(self, stream: IO[bytes]) -> Iterator[WikiPage]:
        """Yield the pages. Raise `XmlError` after the last page that could be read, and whatever a broken stream raises."""
        n_fed = 0
        try:
            while block := stream.read(BLOCK_BYTES):
                self._parser.Parse(block)
                n_fed += len(block)
                if n_fed - self._parser.CurrentByteIndex > MAX_TAG_BYTES:
                    raise XmlError(f"a tag of more than {MAX_TAG_BYTES} bytes at byte {self._parser.CurrentByteIndex}")
                yield from self._take_closed()
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            yield from self._take_closed()
            raise XmlError(f"{error} (byte {self._parser.ErrorByteIndex})") from error
        except XmlError:
            yield from self._take_closed()
            raise

    def _take_closed(self) -> list[WikiPage]:
        closed, self._closed = self._closed, []
        return closed

    def _refuse(self, *_: object) -> None:
        raise XmlError("a document type declaration: dumps have none, and it could define entities without end")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > MAX_DEPTH:
            raise XmlError(f"elements nested more than {MAX_DEPTH} deep")
        if name == "page":
            self._values, self._n_revisions = {}, 0
            self._is_redirect = self._is_too_large = False
        elif name == "revision":  # the last of several revisions is used
            self._n_revisions += 1
            self._values = {key: value for key, value in self._values.items() if not key.startswith("revision/")}
            self._is_too_large = False
        elif name == "redirect":
            self._is_redirect = True
        elif name == "mediawiki":
            self.site.language = attributes.get("xml:lang", "").strip()
        elif name in ("namespace", "alias", "ns") and self._path[-2:-1] and self._path[-2] in NAMESPACE_LISTS:
            key = attributes.get("key", attributes.get("id", ""))
            self._namespace = int(key) if key.removeprefix("-").isdecimal() else 0
        self._pieces, self._n_left = [], self.max_chars if name == LONG else SHORT_CHARS if name in SHORT else 0

    def _characters(self, data: str) -> None:
        if self._n_left >= len(data):
            self._pieces.append(data)
            self._n_left -= len(data)
        elif self._path and self._path[-1] == LONG:
            self._is_too_large, self._pieces, self._n_left = True, [], 0

    def _end(self, name: str) -> None:
        self._path.pop()
        parent = self._path[-1] if self._path else ""
        if name == "page":
            self._close_page()
        elif name == "base" and parent == "siteinfo":
            self.site.base = "".join(self._pieces).strip()
        elif parent in NAMESPACE_LISTS:
            self._add_namespace("".join(self._pieces).strip(), is_alias=parent != "namespaces")
        elif name == LONG or (name in SHORT and parent in ("page", "revision")):
            self._values[f"{parent}/{name}"] = "".join(self._pieces)
        self._pieces, self._n_left = [], 0

    def _add_namespace(self, name: str, *, is_alias: bool) -> None:
        if is_alias or self._namespace in self.site.namespaces:
            self.site.aliases.append((self._namespace, name))
        else:
            self.site.namespaces[self._namespace] = name

    def _close_page(self) -> None:
        values = self._values
        self._values = {}
        self._closed.append(
            WikiPage(
                values.get("page/title", "").strip(),
                _parse_int(values.get("page/ns", ""), -1),
                _parse_int(values.get("page/id", ""), 0),
                _parse_int(values.get("revision/id", ""), 0),
                self._n_revisions,
                values.get("revision/model", "").strip() or "wikitext",
                self._is_redirect,
                self._is_too_large,
                values.get("revision/text", ""),
            )
        )


def _parse_int(text: str, default: int) -> int:
    text = text.strip()
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 19 else default
