"""Recognize the small files that stand for a large one which is stored elsewhere, and was not fetched.

In: the first bytes of a file, or the target of a link that leads nowhere. Out: what it is and how to get the file, or nothing.
"""

from __future__ import annotations

import io
import re
from typing import IO

POINTER_BYTES = 1_024  # a pointer is shorter
POINTERS = (  # after a mark, since editors add one
    (
        re.compile(rb"version https://(git-lfs|hawser)\.github\.com/spec/"),
        "a Git LFS pointer: fetch it with `git lfs pull`",
    ),
    (re.compile(rb"# xet version \d"), "a Xet pointer: fetch it with `git xet checkout` or `hf download`"),
    (re.compile(rb"/annex/objects/\S+\s*$"), "a git-annex pointer: fetch it with `git annex get`"),
)
ANNEX_LINK = re.compile(r"(^|/)\.git/annex/objects/")


def find_pointer(file: IO[bytes] | io.RawIOBase, n_bytes: int) -> str:
    """Return what the file is if it is a pointer, else nothing; it is left at its start. Only files of known size are looked at."""
    if not 0 < n_bytes <= POINTER_BYTES or not file.seekable():
        return ""
    head = file.read(POINTER_BYTES) or b""
    file.seek(0)
    return describe_pointer(head)


def describe_pointer(head: bytes) -> str:
    """Return what a file with these bytes is if it is a pointer, and how to get the file itself; else nothing."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    return next((text for pattern, text in POINTERS if pattern.match(head)), "")


def describe_link(target: str) -> str:
    """Return what a link to nowhere is, from its target."""
    if ANNEX_LINK.search(target):
        return "a git-annex file that is not here: fetch it with `git annex get`"
    return f"a link to {target}, which does not exist"
