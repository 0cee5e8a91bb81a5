"""Make conversations to tune on from a domain's own items: rows with fields → train.parquet and heldout.parquet.

In: a folder with one file `train` and one `heldout`, in any form that storage/rows.py reads (JSON lines, CSV, Parquet, …), split by
whoever wrote them. Out: the files that `sft` reads; heldout rows end with the expected reply; choices.jsonl has for each of them
what the reply can be (`assess` scores the choice) and what the simplest baseline would say. An item gets one of the wordings,
chosen by its text, so that adding one changes no other. Rejected and counted, with file and row in rejects.jsonl: rows that can't
be read, lack a field or have it empty, repeat an earlier item, or (of train) repeat a held-out item. Memory: all items.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import xxhash

from model.tokenizer.chat import Message, messages_to_json
from pipeline.domain.params import FIELD, Domain
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.storage.rows import BROKEN, ROWS, read_rows
from pipeline.storage.streams import CountedFile, decompress, split_name
from pipeline.storage.tables import CONVERSATIONS, HELDOUT, write_table
from pipeline.storage.values import RowProblem

KIND = "domain"
CHOICES = "choices.jsonl"
MAX_CHOICES = 50
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class DomainItem:
    """One conversation of a domain: its position, the user's message and the reply."""

    id: str
    asked: str
    reply: str
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class RejectedItem:
    """One item that gives no conversation, and why."""

    file: str
    row: int
    reason: str
    detail: str


def run(params: Domain, *, items: Path, out: Path) -> Metrics:
    """Write both files. Raises: `UserError` for a missing or broken file, or one without a usable item."""
    heldout, bad_heldout = read_split(params, items, "heldout", {})
    train, bad_train = read_split(params, items, "train", {normalize_message(item.asked): item.id for item in heldout})
    _write_split(out / "train.parquet", train, params.system, is_heldout=False)
    _write_split(out / "heldout.parquet", heldout, params.system, is_heldout=True)
    rejects = [*bad_train, *bad_heldout]
    _write_lines(out / "rejects.jsonl", [asdict(reject) for reject in rejects])
    _write_lines(out / CHOICES, list_choices(params, train, heldout))
    reasons = Counter(reject.reason for reject in rejects)
    counts = {f"n_rejected_{reason}": n for reason, n in sorted(reasons.items())}
    return {"n_train": len(train), "n_heldout": len(heldout), **counts}


def read_split(
    params: Domain, folder: Path, split: str, heldout: Mapping[str, str]
) -> tuple[list[DomainItem], list[RejectedItem]]:
    """Return the items of one file, and its rejects. `heldout` has the messages that may not occur, with the ids of their items.

    Raises: `UserError` for a missing or broken file, or one without a usable item.
    """
    path = find_file(folder, split)
    fields: list[str] = list(dict.fromkeys(FIELD.findall("".join([*params.wordings, params.reply]))))
    items: dict[str, DomainItem] = {}
    rejects: list[RejectedItem] = []
    for number, row in read_file(path, fields):
        reason, detail = check_row(row, fields)
        if not reason and not isinstance(row, RowProblem):
            item = make_item(params, row, f"{path.name}:{number}")
            key = normalize_message(item.asked)
            if key not in heldout and key not in items:
                items[key] = item
                continue
            reason, detail = ("heldout", heldout[key]) if key in heldout else ("duplicate", items[key].id)
        rejects.append(RejectedItem(path.name, number, reason, detail))
    if not items:
        first = f", first {rejects[0].reason}: {rejects[0].detail}" if rejects else ""
        raise UserError(
            f"domain: no usable item in {path}",
            f"{len(rejects)} rejected rows{first}",
            f"give rows with the fields {', '.join(fields)}, which domain.wordings and domain.reply name",
        )
    return list(items.values()), rejects


def find_file(folder: Path, split: str) -> Path:
    """Return the one file of a split. Raises: `UserError` if there is none, or several."""
    paths = (
        [path for path in sorted(folder.iterdir()) if path.name.partition(".")[0] == split] if folder.is_dir() else []
    )
    if len(paths) != 1 or split_name(paths[0].name)[0] not in ROWS:
        found = ", ".join(path.name for path in paths) or f"no file of that name in {folder}"
        raise UserError(
            f"domain: the items' {split} file", found, f"give one file {split} with one of {', '.join(ROWS)}"
        )
    return paths[0]


def read_file(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, Mapping[str, object] | RowProblem]]:
    """Yield number and fields, or the problem, of each row of a file, which may be compressed. Raises: `UserError`."""
    kind, compression = split_name(path.name)
    try:
        with path.open("rb") as file:
            counted = CountedFile(file)
            yield from read_rows(kind, decompress(counted, compression), fields)
            if counted.trailing:
                raise UserError(f"{path}: can't be read to its end", counted.trailing, "compress it again")
    except BROKEN as error:
        raise UserError(f"{path}: can't be read", str(error), "write it again") from error


def check_row(row: Mapping[str, object] | RowProblem, fields: Sequence[str]) -> tuple[str, str]:
    """Return why a row gives no conversation, as a reason and its detail; empty if it gives one."""
    if isinstance(row, RowProblem):
        return row.reason, row.detail
    for field in fields:
        value = row.get(field)
        if not isinstance(value, str) or not value.strip():
            return "field", f"{field} must be a text, found {value!r:.40}"
    return "", ""


def make_item(params: Domain, row: Mapping[str, object], item_id: str) -> DomainItem:
    """Fill the templates with the fields of a row. The wording is chosen by a hash of the fields."""
    values = {name: str(value).strip() for name, value in row.items()}
    names = sorted(set(FIELD.findall("".join(params.wordings))))
    number = xxhash.xxh3_64_intdigest("\0".join(values[name] for name in names).encode()) % len(params.wordings)
    sentences = split_sentences(values[params.sentences_of]) if params.sentences_of else []
    return DomainItem(item_id, fill(params.wordings[number], values), fill(params.reply, values), tuple(sentences))


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text: what ends with a full stop, a question or exclamation mark and a space."""
    return _BETWEEN_SENTENCES.split(text.strip())


def list_choices(
    params: Domain, train: Sequence[DomainItem], heldout: Sequence[DomainItem]
) -> list[dict[str, str | list[str]]]:
    """Return what the reply to each held-out item can be, and the baseline: the first sentence, or the commonest reply of train.

    Raises: `UserError` for an expected reply that is not among them, or too many replies to choose from.
    """
    replies = Counter(item.reply for item in train)
    if params.sentences_of is None and len(replies) > MAX_CHOICES:
        do = "set domain.sentences_of, or use fewer different replies"
        raise UserError("domain: too many different replies to choose from", f"{len(replies)} in train", do)
    majority = min(replies, key=lambda reply: (-replies[reply], reply))
    rows: list[dict[str, str | list[str]]] = []
    for item in heldout:
        choices = list(item.sentences) if params.sentences_of else sorted(replies)
        if item.reply not in choices:
            what = f"sentence of {params.sentences_of}" if params.sentences_of else "reply in train"
            raise UserError(f"domain: {item.id}: the reply is no {what}", repr(item.reply)[:80], "correct the item")
        baseline = item.sentences[0] if params.sentences_of else majority
        rows.append({"id": item.id, "choices": choices, "baseline": baseline})
    return rows


def _write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each {field} by its value, in one pass: braces in values stay as they are."""
    return FIELD.sub(lambda match: values[match[1]], template)


def normalize_message(text: str) -> str:
    """Return what makes two messages the same: letters in any case, and runs of spaces as one."""
    return " ".join(text.casefold().split())


def _write_split(path: Path, items: Sequence[DomainItem], system: str, *, is_heldout: bool) -> None:
    """Write the conversations of one split as the stage `conversations` does."""
    rows = [
        {
            "id": item.id,
            "kind": KIND,
            "messages": json.dumps(messages_to_json(_make_messages(item, system)), ensure_ascii=False),
        }
        | ({"expected": item.reply} if is_heldout else {})
        for item in items
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=HELDOUT if is_heldout else CONVERSATIONS))


def _make_messages(item: DomainItem, system: str) -> list[Message]:
    before = [Message.of("system", system)] if system else []
    return [*before, Message.of("user", item.asked), Message.of("assistant", item.reply)]
