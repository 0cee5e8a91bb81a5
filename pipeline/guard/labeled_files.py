"""Read labeled texts that people bring: rows with a text, a label and perhaps a category, in files of any kind.

In: sources (params) and the folder that their paths are relative to. Out: labeled texts, and a reject for every row that is left
out: what is wrong with it, in which file and row. A row that is wrong is counted; a file that can't be read, a source without
files, or more than half of a source's rows rejected is an error. Memory: the texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from model.guard.categories import CATEGORIES
from pipeline.frame.errors import UserError
from pipeline.guard.params import LabeledSource
from pipeline.screening.license_policy import ALLOWED, LicensePolicy, judge_license
from pipeline.storage.rows import BROKEN, ROWS, read_rows
from pipeline.storage.streams import CountedFile, decompress, split_name
from pipeline.storage.values import RowProblem

LABELS = {
    **dict.fromkeys(("harmful", "unsafe", "1", "true", "yes", "harm", "toxic", "bad"), True),
    **dict.fromkeys(("harmless", "safe", "0", "false", "no", "benign", "good"), False),
}
MAX_TEXT_CHARS = 20_000
MAX_ROW_BYTES = 4_000_000
SHOWN_CHARS = 80
NOTES = (".md", ".txt", ".gitignore", ".dvc")


class LabeledText(NamedTuple):
    """A text with its label. `category`: None if it is not known which."""

    text: str
    is_harmful: bool
    category: str | None
    source: str
    weight: float


class LabeledReject(NamedTuple):
    """A row that is left out."""

    source: str
    locator: str
    reason: str
    detail: str


class Labeled(NamedTuple):
    """What was read of all sources."""

    texts: list[LabeledText]
    rejects: list[LabeledReject]


def read_labeled(sources: Sequence[LabeledSource], folder: Path, policy: LicensePolicy | None) -> Labeled:
    """Return the texts of all sources, each text once, and the rejects. Raises: `UserError`."""
    texts: dict[str, LabeledText] = {}
    rejects: list[LabeledReject] = []
    for source in sources:
        n_read = n_rejected = 0
        for locator, row in _read_source(source, folder):
            n_read += 1
            result = _read_row(source, locator, row, policy, texts)
            if isinstance(result, LabeledReject):
                rejects.append(result)
                n_rejected += result.reason != "duplicate"
            else:
                texts[result.text] = result
        if n_rejected * 2 > n_read:
            last = rejects[-1]
            raise UserError(
                f"guard.sources: {source.name}",
                f"{n_rejected} of {n_read} rows rejected; the last one, {last.locator}: {last.detail}",
                "name its fields by text, label and category, or correct the file (docs/guard.md)",
            )
    return Labeled(list(texts.values()), rejects)


def _read_source(source: LabeledSource, folder: Path) -> Iterator[tuple[str, Mapping[str, Any] | RowProblem]]:
    place = folder / source.path
    found = [place] if place.is_file() else sorted(place.rglob("*") if place.is_dir() else folder.glob(source.path))
    paths = [path for path in found if path.is_file() and path.suffix not in NOTES]
    if not paths:
        do = f"put the files there, or correct guard.sources ({source.name})"
        raise UserError(f"guard.sources: {source.name}", f"no file {place}", do)
    columns = (source.text, source.label, source.category, "license")
    for path in paths:
        kind, compression = split_name(path.name)
        if kind not in ROWS:
            raise UserError(f"{path}: not a file of rows", f"the ending {path.suffix!r}", f"convert it to {ROWS[0]}")
        try:
            with path.open("rb") as file:
                stream = decompress(CountedFile(file), compression)
                for number, row in read_rows(kind, stream, columns, MAX_ROW_BYTES):
                    yield f"{path.relative_to(folder)}:{number}", row
        except BROKEN as error:
            raise UserError(f"{path}: can't be read to its end", str(error), "write or copy it again") from error


def _read_row(
    source: LabeledSource,
    locator: str,
    row: Mapping[str, Any] | RowProblem,
    policy: LicensePolicy | None,
    known: Mapping[str, LabeledText],
) -> LabeledText | LabeledReject:
    """Return the text of a row, or why it is left out."""

    def reject(reason: str, detail: str) -> LabeledReject:
        return LabeledReject(source.name, locator, reason, detail)

    if isinstance(row, RowProblem):
        return reject(row.reason, row.detail[:200])
    text, label, category = (row.get(name) for name in (source.text, source.label, source.category))
    if not isinstance(text, str) or not text.strip():
        return reject("no_text", f"no text in the field {source.text!r}")
    if len(text) > MAX_TEXT_CHARS:
        return reject("too_long", f"{len(text):,} characters; at most {MAX_TEXT_CHARS:,}")
    is_harmful = LABELS.get(str(label).strip().lower())
    if is_harmful is None:
        return reject("no_label", f"the field {source.label!r} is {str(label)[:SHOWN_CHARS]!r}: harmful or harmless")
    name = source.categories.get(str(category), str(category)) if category not in (None, "") else None
    if is_harmful and name is not None and name not in CATEGORIES:
        return reject("unknown_category", f"{name[:SHOWN_CHARS]!r}; map it by `categories`")
    license_ = row.get("license") or source.license
    if policy is not None and judge_license(str(license_), policy) != ALLOWED:
        return reject("license", f"{str(license_)[:SHOWN_CHARS]!r} is not among guard.licenses")
    if text.strip() in known:
        is_same = known[text.strip()].is_harmful == is_harmful
        return reject("duplicate" if is_same else "contradiction", "the same text was read before")
    return LabeledText(text.strip(), is_harmful, name if is_harmful else None, source.name, source.weight)
