"""What the guides tell a reader to run is understood: commands exist, their options parse, paths and links lead somewhere."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pipeline import launch
from pipeline.frame.environment import BY_NAME
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md")) + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")]
HISTORY = "log.md"  # its commands and paths are those of their day
OTHERS = ("cp", "curl", "export", "git", "llama-server", "mlflow", "ollama", "pip", "rm", "source", "vllm")
PATHS = re.compile(r"(?<![\w./<-])(?:docs|pipeline|model|flows|assistant|service|tests|benchmarks)/[\w./-]*\w(?![\w*])")
LINKS = re.compile(r"\]\(([^)\s]+)\)")
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


class ParsedError(Exception):
    """End a command whose options have been parsed, before it does anything."""


def read_blocks(page: Path) -> Iterator[str]:
    """Yield the commands of a page's `sh` blocks, with continued lines joined and without here-documents."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        text = re.sub(r" - <<'END'\n.*?\nEND\n", "\n", block.replace("\\\n", " "), flags=re.DOTALL)
        yield from (part for line in text.splitlines() for part in line.split(" && "))


def read_mentions(page: Path) -> Iterator[str]:
    """Yield the commands between backticks, which may have placeholders."""
    yield from re.findall(r"`(python -m [^`\n]+)`", page.read_text(encoding="utf-8"))


@cache
def list_commands() -> list[tuple[str, str]]:
    """Return (page, command) for every command in the blocks once."""
    lines = [(page.name, shlex.split(line, comments=True)) for page in PAGES for line in read_blocks(page)]
    return list(dict.fromkeys((page, shlex.join(words)) for page, words in lines if words and page != HISTORY))


@cache
def list_mentions() -> list[tuple[str, str]]:
    """Return (page, command) for every command between backticks once."""
    return list(
        dict.fromkeys((page.name, line) for page in PAGES for line in read_mentions(page) if page.name != HISTORY)
    )


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command end once its options have been parsed."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> NoReturn:
        parse(self, *args, **kwargs)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
    monkeypatch.chdir(ROOT)


def load_main(module: str) -> Callable[[list[str]], int]:
    """Return what `python -m module` calls."""
    is_package = (ROOT / module.replace(".", "/")).is_dir()
    return importlib.import_module(f"{module}.__main__" if is_package else module).main


@pytest.mark.usefixtures("only_parse")
@pytest.mark.parametrize(("page", "line"), list_commands())
def test_a_command_is_understood(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)
    while ASSIGNMENT.fullmatch(words[0]):
        assert words.pop(0).partition("=")[0] in BY_NAME
    if words[:3] == ["python", "-m", "pipeline"]:
        if "…" not in words:
            monkeypatch.undo()
            monkeypatch.chdir(ROOT)
            for name in ("MINIGPT_SHARDING", "MINIGPT_PROFILE", "MINIGPT_MAX_RESTARTS"):  # options set them
                monkeypatch.setenv(name, "")
            assert launch.main(["--dry-run", *words[3:]]) == 0
    elif words[:2] == ["python", "-m"] and words[2] != "dvc":
        with pytest.raises(ParsedError):
            load_main(words[2])(words[3:])
    elif words[0] == "make":
        process = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
    elif "dvc" in (words[0], *words[2:3]):
        from dvc.cli.parser import get_main_parser

        monkeypatch.undo()
        get_main_parser().parse_args(words[words.index("dvc") + 1 :])
    else:
        assert words[0] in OTHERS or words == ["python"], f"{page}: {line}"


@pytest.mark.usefixtures("only_parse")
@pytest.mark.parametrize(("page", "line"), list_mentions())
def test_a_command_in_the_text_exists_with_its_options(
    page: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module, *arguments = line.removeprefix("python -m ").split()
    verb = [word for word in arguments[:1] if re.fullmatch(r"[a-z]+", word)]
    if module in ("pytest", "dvc"):
        return
    with contextlib.suppress(SystemExit):
        assert load_main(module)([*verb, "--help"]) == 0
    printed = "".join(capsys.readouterr())
    missing = [option for option in re.findall(r"(?<!\S)--[a-z-]+", line) if option not in printed]
    assert printed, f"{page}: {line}"
    assert not missing, f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in LINKS.findall(text):
        if "://" not in link:
            target, _, heading = link.partition("#")
            path = (page.parent / target).resolve() if target else page
            assert path.exists(), f"{page.name}: {link}"
            headings = re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
            assert not heading or heading in slugs, f"{page.name}: {link}"
    if page.name != HISTORY:
        missing = [path for path in PATHS.findall(text) if not (ROOT / path).exists()]
        assert not missing, f"{page.name}: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_in_blocks_of_the_shell(page: Path) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert not [
        text for kind, text in blocks if kind != "sh" and re.search(r"^(python -m|dvc|make) ", text, re.MULTILINE)
    ]


def test_the_index_lists_every_guide_once() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[([\w.]+)\]\(([\w.]+)\) \|", index, re.MULTILINE)
    assert all(name == link for name, link in rows)
    guides = [page.name for page in PAGES if page.parent.name == "docs" and page.name != "index.md"]
    assert sorted(name for name, _ in rows) == guides
