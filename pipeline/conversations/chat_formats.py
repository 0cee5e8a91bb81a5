"""Recognize and read the formats in which people keep conversations: one row → conversations of typed messages.

In: rows as mappings, by any reader of pipeline/storage/rows.py. Out: one `Draft` per conversation, or a `ConversationError` with
the reason why there is none, which is counted, and a detail. docs/chats.md has an example of each format:

- messages: OpenAI's `messages` with tool calls, also `prompt` and `completion` that are lists of messages
- chatml: the literal text `<|im_start|>role … <|im_end|>` in the field `text`
- sharegpt: `conversations` of `from` and `value`
- alpaca, dolly, t0, prompt: an instruction, perhaps what it refers to, and a reply, in fields of these names (`PAIRS`)
- self_instruct: `instruction` with `instances`, each of which is a conversation
- gsm8k: `question` and an `answer` that ends with `#### number`; the notes of its calculator, `<<48/2=24>>`, are removed
- columns: the fields that `conversations.sources.columns` names

Covers: prompts in Alpaca's template, which is removed; markers of other tokenizers at the end of a reply (`<|endoftext|>`), which
are removed and counted. Everything else is text, whatever it looks like. Does not cover: several replies to choose from, images,
audio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from model.tokenizer.chat import Message
from model.tokenizer.histories import read_message
from pipeline.conversations.chatml import CHATML_MARK, ConversationError, parse_chatml

AUTO, COLUMNS = "auto", "columns"
END_MARKS = ("<|endoftext|>", "</s>", "<|im_end|>", "<|eot_id|>", "###eos_token###")
ALPACA_TEMPLATE = "Below is an instruction that describes a task", "### Instruction:", "### Input:", "### Response:"
CALCULATOR_NOTE = re.compile(r"<<[^<>\n]*>>")
GSM8K_ANSWER = "#### "  # begins the last line
# Fields of other programs that say where a row is from or what it is about, and nothing of what is said.
IGNORED = frozenset(
    {
        "category",
        "created_at",
        "dataset",
        "functions",
        "hash",
        "id",
        "idx",
        "index",
        "is_classification",
        "kind",
        "lang",
        "language",
        "metadata",
        "model",
        "name",
        "parallel_tool_calls",
        "source",
        "tags",
        "task",
        "timestamp",
        "title",
        "tools",
    }
)
REASON_OF_FIELD = {
    "role": "unknown_role",
    "content": "not_text",
    "refusal": "not_text",
    "tool_calls": "tool_call",
    "call": "tool_call",
    "call_id": "tool_call",
}


class Draft(NamedTuple):
    """A conversation as its row has it, before its turns are checked."""

    messages: list[Message]
    format: str
    license: str = ""
    has_end_mark: bool = False


class PairFormat(NamedTuple):
    """Fields of a row with an instruction, what it refers to (perhaps none), and the reply."""

    format: str
    asked: str
    context: str
    reply: str


PAIRS = (
    PairFormat("alpaca", "instruction", "input", "output"),
    PairFormat("dolly", "instruction", "context", "response"),
    PairFormat("t0", "inputs", "", "targets"),
    PairFormat("prompt", "prompt", "", "completion"),
    PairFormat("prompt", "prompt", "", "response"),
    PairFormat("prompt", "prompt", "", "answer"),
    PairFormat("gsm8k", "question", "", "answer"),
    PairFormat("prompt", "question", "", "answer"),
)
TURN_LISTS = {"messages": "messages", "sharegpt": "conversations"}
FORMATS = (*TURN_LISTS, "chatml", "self_instruct", *dict.fromkeys(pair.format for pair in PAIRS), COLUMNS)
PRETOKENIZED = {"t0": ("inputs_pretokenized", "targets_pretokenized")}  # P3's: the texts of the fields of ids
# What is read of Parquet and Arrow files, whose other columns cost time.
FIELDS = tuple(
    dict.fromkeys(
        [
            *TURN_LISTS.values(),
            *(field for pair in PAIRS for field in (pair.asked, pair.context, pair.reply) if field),
            *(field for fields in PRETOKENIZED.values() for field in fields),
            *("text", "instances", "system", "license"),
        ]
    )
)
Row = Mapping[str, Any]


def read_row(
    row: Row, format: str = AUTO, columns: Mapping[str, str] | None = None, ignored: Iterable[str] = ()
) -> list[Draft | ConversationError]:
    """Return the conversations of a row, or why it has none. `columns` are the fields of the format `columns`, by role."""
    try:
        kind = recognize_format(row) if format == AUTO else format
        raws, used = _list_raw(row, kind, columns or {})
        _check_fields(row, kind, {*used, "system", "license", *IGNORED, *ignored})
        stated = row.get((columns or {}).get("license", "license"))
    except ConversationError as error:
        return [error]
    except RecursionError:
        return [ConversationError("not_json", "nested too deeply")]
    license = stated if isinstance(stated, str) else ""
    return [_catch(lambda raw=raw: _make_draft(raw, kind, license)) for raw in raws]


def _catch(make: Callable[[], Draft]) -> Draft | ConversationError:
    try:
        return make()
    except ConversationError as error:
        return error
    except RecursionError:
        return ConversationError("not_json", "nested too deeply")


def recognize_format(row: Row) -> str:
    """Return the format of a row by its fields. Raises: ConversationError for fields of no format."""
    for name, field in TURN_LISTS.items():
        if field in row:
            return name
    if isinstance(text := row.get("text"), str) and CHATML_MARK in text:
        return "chatml"
    if "instruction" in row and "instances" in row:
        return "self_instruct"
    pair = next((pair for pair in PAIRS if _has_pair(row, pair)), None)
    if pair is None:
        raise ConversationError("unknown_format", f"fields {_name_fields(row)}; known are {describe_formats()}")
    return pair.format


def _has_pair(row: Row, pair: PairFormat) -> bool:
    if pair.asked not in row or pair.reply not in row:
        return False
    reply = row[pair.reply]
    last = reply.rstrip().rpartition("\n")[2] if isinstance(reply, str) else ""
    return pair.format != "gsm8k" or last.startswith(GSM8K_ANSWER)


def describe_formats() -> str:
    """Return the fields of each format, for messages to the user."""
    pairs = [f"{pair.asked} and {pair.reply}" for pair in PAIRS]
    lists = [*TURN_LISTS.values(), f"text with {CHATML_MARK}", "instruction and instances"]
    return ", ".join(dict.fromkeys([*lists, *pairs]))


def _name_fields(row: Row) -> str:
    return ", ".join(map(str, list(row)[:12])) or "none"


class _Raw(NamedTuple):
    """The values of a conversation: a list of turns; or an instruction, what it refers to, and the reply."""

    turns: list[Any] | None
    pair: tuple[Any, Any, Any] = (None, None, None)
    system: Any = None


def _list_raw(row: Row, kind: str, columns: Mapping[str, str]) -> tuple[list[_Raw], set[str]]:
    """Return the turns of each conversation of a row, and the fields that they are read from."""
    if kind == COLUMNS:
        return _read_columns(row, columns)
    if kind in TURN_LISTS:
        field = TURN_LISTS[kind]
        _require(row, kind, field)
        return [_Raw(parse_turns(row[field]), system=row.get("system"))], {field}
    if kind == "chatml":
        _require(row, kind, "text")
        return [_Raw(parse_chatml(str(row["text"])))], {"text"}
    if kind == "self_instruct":
        _require(row, kind, "instruction", "instances")
        return _read_instances(row["instruction"], row["instances"]), {"instruction", "instances"}
    row = {
        **{field.removesuffix("_pretokenized"): row[field] for field in PRETOKENIZED.get(kind, ()) if field in row}
    } | {**{name: value for name, value in row.items() if not (kind == "t0" and f"{name}_pretokenized" in row)}}
    pairs = [pair for pair in PAIRS if pair.format == kind]
    pair = next((pair for pair in pairs if _has_pair(row, pair)), None)
    if pair is None:
        raise ConversationError(
            "unknown_format",
            f"fields {_name_fields(row)}; {kind} has {' or '.join(f'{p.asked} and {p.reply}' for p in pairs)}",
        )
    used = {pair.asked, pair.reply, *([pair.context] if pair.context else []), *PRETOKENIZED.get(kind, ())}
    return [_Raw(None, (row[pair.asked], row.get(pair.context), row[pair.reply]), row.get("system"))], used


def _require(row: Row, kind: str, *fields: str) -> None:
    if missing := [field for field in fields if field not in row]:
        raise ConversationError("unknown_format", f"fields {_name_fields(row)}; {kind} has {' and '.join(missing)}")


def _check_fields(row: Row, kind: str, known: set[str]) -> None:
    unknown = sorted(str(name) for name in row.keys() - known if row[name] not in (None, "", [], {}))
    if unknown and kind != COLUMNS:  # where fields are named, the others are known to be unused
        raise ConversationError(
            "unknown_key", f"{unknown[0]} is no field of the format {kind}; if it can be ignored, list it in ignore"
        )


def parse_turns(value: Any) -> list[Any]:
    """Return a list of turns, which in a table is a cell of JSON. Raises: ConversationError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ConversationError("not_json", f"turns that are text but not JSON: {error}") from error
    if not isinstance(value, list):
        raise ConversationError("no_turns", f"a list of turns is missing; found {type(value).__name__}")
    return value


def _read_instances(asked: Any, instances: Any) -> list[_Raw]:
    if not isinstance(instances, list) or not instances:
        raise ConversationError("no_turns", "instances must be a list of input and output")
    rows = [each if isinstance(each, Mapping) else {} for each in instances]
    return [_Raw(None, (asked, row.get("input"), row.get("output"))) for row in rows]


def _read_columns(row: Row, columns: Mapping[str, str]) -> tuple[list[_Raw], set[str]]:
    values = {role: find_value(row, name) for role, name in columns.items()}
    if missing := [
        columns[role] for role in ("messages", "user", "assistant") if role in columns and values[role] is None
    ]:
        raise ConversationError("no_turns", f"no field {', '.join(missing)}; the row has {_name_fields(row)}")
    system = values.get("system")
    if "messages" in columns:
        return [_Raw(parse_turns(values["messages"]), system=system)], set(columns.values())
    return [_Raw(None, (values["user"], values.get("context"), values["assistant"]), system)], set(columns.values())


def find_value(row: Any, name: str) -> Any:
    """Return the value at a dotted name, of several texts the first; None if there is none."""
    value = row.get(name)
    if name not in row:
        value = row
        for part in name.split("."):
            value = value[0] if isinstance(value, list) and value else value
            value = value.get(part) if isinstance(value, Mapping) else None
    return value[0] if isinstance(value, list) and value and isinstance(value[0], str) else value


def _join_pair(asked: Any, context: Any, reply: Any, kind: str) -> list[Any]:
    """Return the turns of an instruction and a reply, which may be lists of messages."""
    if isinstance(asked, list) and isinstance(reply, list):
        return [*asked, *reply]
    texts = [_read_text(asked, "the instruction"), _read_text(context, "the input")]
    texts = [*read_template(texts[0]), texts[1]]
    answer = _read_text(reply, "the reply").strip()
    answer = CALCULATOR_NOTE.sub("", answer) if kind == "gsm8k" else answer
    question = "\n\n".join(text.strip() for text in texts if text.strip())
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def read_template(text: str) -> list[str]:
    """Return the instruction and the input, if any, of a prompt in Alpaca's template; another text is an instruction."""
    begin, asked, context, end = ALPACA_TEMPLATE
    if not text.startswith(begin) or asked not in text or not text.rstrip().endswith(end):
        return [text]
    return text.partition(asked)[2].rstrip().removesuffix(end).split(context, 1)


def strip_end_marks(text: str) -> str:
    """Return a reply without the markers of other tokenizers at its end."""
    end = len(text.rstrip())
    while mark := next((mark for mark in END_MARKS if text.endswith(mark, 0, end)), ""):
        end -= len(mark)
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


def _read_text(value: Any, name: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float) and not isinstance(value, bool):  # the answer to a calculation
        return str(value)
    raise ConversationError("not_text", f"{name} must be text; found {type(value).__name__}")


def _make_draft(raw: _Raw, kind: str, license: str) -> Draft:
    messages: list[Message] = []
    turns = _join_pair(*raw.pair, kind) if raw.turns is None else raw.turns
    turns = [{"role": "system", "content": raw.system}, *turns] if raw.system else turns
    for number, turn in enumerate(turns):
        try:
            messages += read_message(turn)
        except ValueError as error:  # it begins with the field's name
            field = re.split(r"[.\[ ]", str(error), maxsplit=1)[0]
            raise ConversationError(REASON_OF_FIELD.get(field, "unknown_key"), f"turn {number + 1}: {error}") from None
    has_end_mark = bool(messages) and messages[-1].call is None and messages[-1].text.rstrip().endswith(END_MARKS)
    if has_end_mark:
        messages[-1] = Message.of(messages[-1].role, strip_end_marks(messages[-1].text))
    return Draft(messages, kind, license, has_end_mark)
