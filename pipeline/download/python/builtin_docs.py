"""Read the documentation of the standard library's compiled modules and built-in types, which have no Python source to parse.

A child process imports them (`introspection_script.py`, with -I -S: no site-packages, no environment, no current folder) and prints
what it finds as JSON, which is validated here like any other input. Out: for each module what `docstrings.parse_file` returns for a
file, or the reason why it could not be read: a module that crashes the child or hangs is named, and another child reads the rest.
The same interpreter gives the same bytes; its version is part of the provenance.
Time: 0.3 s. Memory: the output, at most `MAX_BYTES`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.download.python.definitions import Definitions
from pipeline.download.python.docstrings import Exports, Parsed, Symbol, clean_docstring, is_private_part
from pipeline.download.python.symbol_signatures import split_signature

SCRIPT = Path(__file__).with_name("introspection_script.py")
CHILD_SECONDS = 60.0
MAX_CHILDREN = 8  # after so many crashes the modules that are left become rejects
MAX_BYTES = 64_000_000
NAME = re.compile(r"[A-Za-z_]\w*")
CRASHED, HANGING, BROKEN = "introspection_crashed", "introspection_hangs", "introspection_failed"


class BuiltinModule(NamedTuple):
    """A compiled module and either what it documents or (reason, detail) of the error."""

    name: str
    parsed: Parsed | None
    error: tuple[str, str]


class IntrospectedSymbol(BaseModel):
    """One symbol as the child describes it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    qualname: str = Field(pattern=r"^([^\W\d]\w*(\.[^\W\d]\w*)*)?$", max_length=300)
    kind: str = Field(pattern="^(module|class|function|method)$")
    prefix: str = Field(pattern="^((property|classmethod|staticmethod) )?$")
    signature: str = Field(max_length=4_000)
    doc: str = Field(max_length=1_000_000)
    bases: list[str] = Field(max_length=100)


class IntrospectionLine(BaseModel):
    """One line of the child's output."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    modules: list[str] = []
    begin: str = ""
    module: str = ""
    symbols: list[IntrospectedSymbol] = []
    error: str = ""


class ChildRun(NamedTuple):
    """What one child has described, the modules that it has not, and how it ended (reason, detail)."""

    modules: list[BuiltinModule]
    begun: str
    left: list[str]
    failure: tuple[str, str]


def read_builtins(script: Path = SCRIPT, seconds: float = CHILD_SECONDS) -> list[BuiltinModule]:
    """Return the compiled modules of the running interpreter in the order of their names."""
    found: dict[str, BuiltinModule] = {}
    for attempt in range(MAX_CHILDREN):
        run = _run_child(script, list(found), seconds)
        is_last = attempt + 1 == MAX_CHILDREN or not run.begun or run.begun in found
        found |= {module.name: module for module in run.modules}
        if run.failure[0]:
            lost = [*filter(None, [run.begun]), *(run.left if is_last else [])] or ["?"]
            found |= {name: BuiltinModule(name, None, run.failure) for name in lost}
        if not run.failure[0] or is_last:
            break
    return sorted(found.values(), key=lambda module: module.name)


def _run_child(script: Path, done: Sequence[str], seconds: float) -> ChildRun:
    command = [sys.executable, "-I", "-S", "-B", str(script), *done]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=folder,
                env={},
                timeout=seconds,
                check=False,
            ).returncode
            failure = (CRASHED, f"exit status {code}: {_read_end(log)}") if code else ("", "")
        except subprocess.TimeoutExpired:
            failure = HANGING, f"no end after {seconds:g} s"
        out.seek(0)
        return _parse_output(out.read(MAX_BYTES + 1), failure)


def _read_end(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read(1_000_000).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def _parse_output(data: bytes, failure: tuple[str, str]) -> ChildRun:
    """Return what complete lines describe; a line of another form ends the reading and is the failure."""
    if len(data) > MAX_BYTES:
        return ChildRun([], "", [], (BROKEN, f"more than {MAX_BYTES:,} bytes of output"))
    described: dict[str, BuiltinModule] = {}
    names: list[str] = []
    begun = ""
    for raw in data.split(b"\n")[:-1]:  # what follows the last line feed is incomplete
        try:
            line = IntrospectionLine.model_validate_json(raw)
        except ValidationError as error:
            failure = BROKEN, f"not a line of introspection: {error.errors()[0]['msg']}"
            break
        names, begun = names or line.modules, line.begin or begun
        if line.module:
            described[line.module] = _make_module(line)
            begun = ""
    left = [name for name in names if name not in described and name != begun]
    if not failure[0] and (left or begun or not names):
        failure = BROKEN, "the output is incomplete"
    return ChildRun(list(described.values()), begun, left, failure)


def _make_module(line: IntrospectionLine) -> BuiltinModule:
    if line.error:
        return BuiltinModule(line.module, None, (BROKEN, line.error))
    symbols = list(_iterate_symbols(line.symbols))
    bases = {
        each.qualname: [base.removeprefix("builtins.") for base in each.bases]
        for each in line.symbols
        if each.kind == "class"
    }
    bare = [symbol for symbol in symbols if not symbol.doc]
    n_undocumented = sum(not is_private_part(symbol.qualname) for symbol in bare)
    documented = [symbol for symbol in symbols if symbol.doc]
    return BuiltinModule(
        line.module, Parsed(documented, Exports(), n_undocumented, bare, Definitions(bases=bases)), ("", "")
    )


def _iterate_symbols(described: Sequence[IntrospectedSymbol]) -> Iterator[Symbol]:
    for each in described:
        opening, doc = split_signature(clean_docstring(each.doc), each.qualname.rpartition(".")[2])
        signature = opening if opening and each.signature in ("", "()", "(*args, **kwargs)") else each.signature
        signature = "" if each.kind == "class" and signature == "()" else signature  # what `object` has
        yield Symbol("", each.qualname, each.kind, each.prefix, signature, head_parameters(doc, signature), 0)


def head_parameters(doc: str, signature: str) -> str:
    """Return a docstring of CPython's Argument Clinic with the heading that numpydoc gives to parameters, which are last then.

    Clinic writes each one on a line of its own, its description indented below, and no heading above them.
    """
    names = set(NAME.findall(signature))
    lines = doc.split("\n")
    entries = [at for at in range(len(lines) - 1) if _is_entry(lines, at, names)]
    if not entries:
        return doc
    start, indent = entries[0], _get_indent(lines[entries[0]])
    stop = next(
        (
            at
            for at in range(start, len(lines))
            if lines[at].strip() and _get_indent(lines[at]) <= indent and at not in entries
        ),
        len(lines),
    )
    prose = "\n".join([*lines[:start], *lines[stop:]]).strip()
    block = "\n".join(line[indent:] for line in lines[start:stop]).rstrip()
    return f"{prose}\n\nParameters\n----------\n{block}"


def _is_entry(lines: Sequence[str], at: int, names: set[str]) -> bool:
    return lines[at].strip() in names and _get_indent(lines[at + 1]) > _get_indent(lines[at])


def _get_indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 0
