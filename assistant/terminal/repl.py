"""python -m assistant [--model FOLDER] [--index FOLDER]: a streaming chat with a model, its two tools really executed.

In: lines from a terminal or a pipe (`printf 'What is 12*7?\\n/quit\\n' | python -m assistant`). Out: answers as they are written.
Ctrl-C stops an answer, a second one at the prompt leaves, as do Ctrl-D and /quit. A line that begins with a space is never a
command. Exit codes: 0 good, 1 a person's error, 2 usage, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from contextlib import closing
from dataclasses import fields
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.conversation.events import Done, Notice, Sampling, TextPiece, ToolResult
from assistant.conversation.session import Session
from assistant.inference.choice import choose
from assistant.knowledge.lexical import Passages
from assistant.terminal.screen import Interruption, Screen
from assistant.tools.toolbox import make_tools

if TYPE_CHECKING:
    from assistant.inference.local import ModelInfo

HELP = """/system TEXT  tell the model how to behave (nothing after it: take that back)
/reset        forget what was said
/help         this list
/quit         leave (or Ctrl-D); Ctrl-C stops an answer"""
STOPPED = {"length": "cut at --max-tokens", "window": "cut, the window is full"}


class Chat:
    """One conversation on one screen."""

    def __init__(self, session: Session, sampling: Sampling, screen: Screen) -> None:
        self.session, self.sampling, self.screen = session, sampling, screen

    def run(self) -> int:
        """Until the person leaves; returns the exit code."""
        is_warned = False
        while True:
            try:
                line = self.screen.read()
            except EOFError:
                return 0
            except KeyboardInterrupt:
                if is_warned or not self.screen.is_terminal:
                    return 130
                is_warned = True
                self.screen.remark("Ctrl-C again, or Ctrl-D, to leave")
                continue
            is_warned = False
            if line.startswith("/"):
                if not self.command(line):
                    return 0
            elif line.strip():
                is_warned = self.answer(line.strip())

    def command(self, line: str) -> bool:
        """False to leave."""
        name, _, text = line.strip().partition(" ")
        if name == "/quit":
            return False
        if name == "/help":
            self.screen.remark(HELP)
        elif name == "/reset":
            self.session.reset()
            self.screen.remark("forgotten" + ("; the system prompt stays" if self.session.system else ""))
        elif name == "/system":
            self.session.system = text.strip()
            self.screen.remark("the system prompt is set" if text.strip() else "there is no system prompt now")
        else:
            self.screen.remark(f"unknown command {name}; /help lists them (a text may begin with a space)")
        return True

    def answer(self, text: str) -> bool:
        """True if it was stopped by Ctrl-C."""
        is_empty, last = True, None
        with Interruption() as interruption, closing(self.session.send(text, self.sampling)) as events:
            for event in events:
                if isinstance(event, TextPiece):
                    self.screen.write(event.text)
                    is_empty = is_empty and not event.text.strip()
                elif isinstance(event, ToolResult):
                    self._show_tool(event)
                elif isinstance(event, Notice):
                    self.screen.remark(event.text)
                elif isinstance(event, Done):
                    last = event
                if interruption.is_asked:
                    break
        self.screen.write("\n")
        if interruption.is_asked:
            self.screen.remark("stopped")
        elif is_empty:
            self.screen.remark("the model said nothing")
        if last is not None and not interruption.is_asked:
            self._show_counts(last)
        return interruption.is_asked

    def _show_tool(self, result: ToolResult) -> None:
        call = f"{result.call.name}({result.call.argument})"
        if result.call.name != "search_docs":
            self.screen.remark_cut(f"{call} → {result.text}")
            return
        self.screen.remark_cut(call)
        for line in result.text.splitlines():
            self.screen.remark_cut(f"  {line}")

    def _show_counts(self, done: Done) -> None:
        rate = f", {done.tokens_per_second:.0f} tokens/s" if done.n_tokens > 1 else ""
        stopped = f"; {STOPPED[done.reason]}" if done.reason in STOPPED else ""
        tokens = "1 token" if done.n_tokens == 1 else f"{done.n_tokens} tokens"
        self.screen.remark(f"{tokens}{rate}, the first after {done.first_token_seconds:.2f} s{stopped}")


def main(argv: list[str] | None = None) -> int:
    """Runs the chat and returns the exit code."""
    args = _parser().parse_args(argv)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return _start(args).run()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has left; what is still buffered must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _start(args: argparse.Namespace) -> Chat:
    sampling = Sampling(**{setting.name: getattr(args, setting.name) for setting in fields(Sampling)})
    choice = choose(args.model, args.index, Path())
    from assistant.inference.local import ModelEngine  # here, because torch takes a second and usage errors should not

    engine = ModelEngine.load(choice.folder, weights=args.weights)
    history = Path("var/chat_history") if Path("var").is_dir() else None
    screen = Screen(is_terminal=sys.stdin.isatty() and sys.stdout.isatty(), history_file=history)
    for line in banner(engine.info, choice.index, choice.why):
        screen.remark(line)
    return Chat(Session(engine, make_tools(choice.index), system=args.system), sampling, screen)


def banner(info: ModelInfo, index: Path | None, why: str) -> list[str]:
    """Return lines on the model, where it is from, its phase and size, and what it can look up."""
    size = f"{info.n_parameters / 1e6:.2f} M parameters, {info.weight_bytes / 1e6:.1f} MB, window {info.seq_len} tokens"
    weights = "" if info.weights == "float32" else f", weights in {info.weights}"
    lines = [f"MiniGPT, {size}, on {info.device}{weights}", f"phase {info.phase}, from {info.folder}: {why}"]
    if info.phase == "pretrain":
        return [*lines, "a base model: it only continues your text, without chat, history or tools"]
    return [*lines, f"tools: calculator, {_searched(index, info.folder)}; /help lists the commands"]


def _searched(index: Path | None, model: Path) -> str:
    """Describe what search_docs searches."""
    if index is None:
        return f"no search_docs, because there is no index beside {model} (--index FOLDER names one)"
    try:
        return f"search_docs over {Passages(index / 'passages.sqlite').count():,} passages from {index}"
    except sqlite3.Error:
        return f"search_docs finds nothing, because {index / 'passages.sqlite'} is damaged"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m assistant", description="Talk to a model.")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a model folder (default: var/champion/model, else the newest finished model)",
    )
    parser.add_argument(
        "--index",
        type=Path,
        metavar="FOLDER",
        help="what search_docs searches (default: the folder index beside the model, so var/champion/index)",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "int8"),
        help="in memory; int8 takes a quarter of it and half the time, on a CPU (default: MINIGPT_WEIGHTS, else float32)",
    )
    parser.add_argument("--system", default="", metavar="TEXT", help="how the model is to behave")
    for setting in fields(Sampling):
        flag, kind = f"--{setting.name.replace('_', '-')}", int if setting.type == "int" else float
        text = f"{setting.metadata['about']} (%(default)s)"
        parser.add_argument(flag, type=kind, default=setting.default, metavar="N", help=text)
    return parser
