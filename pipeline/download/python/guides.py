"""Read the pages that packages ship as text beside their code: tutorials, descriptions of data sets, design notes.

In: a package. Out: one document per .rst or .md file, titled with its first heading; code examples keep their line breaks. Texts
are under the package's license, so files that state another one, or none of prose, are left out: licenses, lists of changes and
people, instructions for coding agents, and whatever is in a folder of tests or of other projects. A YAML front matter is removed.
Time and memory: O(n) in the size of the files, which are few (0.2 MB for 21 packages).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.download.python.distributions import Package, SourceFile
from pipeline.download.readers.document import Document, Reject, dump_canonical_json

MAX_BYTES = 1_000_000
MIN_WORDS = 40  # fewer are a pointer to somewhere else
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
MARKDOWN_HEADING = re.compile(r"^#{1,3} +(.+?) *#*$", re.MULTILINE)
UNDERLINED_HEADING = re.compile(r"^(?![-=~*#.]{3})(\S.*)\n(={3,}|-{3,}|~{3,}|\*{3,}|\^{3,})[ \t]*$", re.MULTILINE)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")
COMMENT_LINES = re.compile(r"\A(\s*\.\. (?!\w[\w:-]*::).*\n)+")  # labels and comments before the heading


def read_guides(package: Package) -> Iterator[Document | Reject]:
    """Yield the documents of a package's pages, and rejects for those that cannot be read; pages without prose are passed over."""
    source = f"python_docs/{package.name}"
    for file in package.guides:
        locator = dump_canonical_json(
            {"package": package.name, "version": package.version, "file": file.relative, "kind": "guide"}
        )
        try:
            text = clean_guide(_read_text(file))
        except UnicodeDecodeError as error:
            yield Reject(source, locator, "not_utf8", str(error))
        except (OSError, ValueError) as error:
            yield Reject(source, locator, "unreadable", str(error))
        else:
            if len(text.split()) >= MIN_WORDS:
                yield Document(source, locator, text, find_title(text, file.relative), "", package.license)


def _read_text(file: SourceFile) -> str:
    with Path(file.path).open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    return data.decode("utf-8-sig")


def clean_guide(text: str) -> str:
    """Return a page without front matter, control characters, comments at its beginning, and spaces at line ends."""
    text = CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = COMMENT_LINES.sub("", FRONT_MATTER.sub("", text))
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def find_title(text: str, relative: str) -> str:
    """Return the first heading, or the name of the file if there is none."""
    headings = [found for pattern in (MARKDOWN_HEADING, UNDERLINED_HEADING) if (found := pattern.search(text))]
    first = min(headings, key=lambda match: match.start(), default=None)
    title = first[1] if first else ""
    title = " ".join(re.sub(r"[`*]|:\w+:", "", title).split())
    return title or Path(relative).stem.replace("_", " ")
