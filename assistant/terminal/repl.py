"""python -m assistant [--model FOLDER] [--index FOLDER] [--collection NAME]: chat with a model that calls tools.

In: lines from a terminal or a pipe (`printf 'What is 12*7?\\n/quit\\n' | python -m assistant`). Out: answers as they are generated.
A base model continues each line; an empty line gets a text from the beginning. With a temperature, the n-th answer is drawn with
`--seed` + n - 1, so that the same line gets other answers, and the same session the same ones. Ctrl-C interrupts an answer; a
second Ctrl-C at the prompt quits, as do Ctrl-D and /quit. A line that begins with a space is never a command.
Exit codes: 0 success, 1 user error, 2 usage error, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import fields, replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from assistant.conversation.events import Citation, Done, Notice, Recalled, Sampling, TextPiece, ToolResult
from assistant.conversation.responder import Responder
from assistant.conversation.session import Grounding, Session
from assistant.guard.guarded_chat import GuardResponder, ScreenedEngine, ScreenedTools
from assistant.guard.harm_guard import Guard, find_guard
from assistant.inference.model_choice import CHAMPION, ModelChoice, choose_model
from assistant.knowledge.knowledge_base import Knowledge, describe_place
from assistant.memory.memory_commands import ABOUT, make_commands
from assistant.memory.opening import open_memory
from assistant.profiles.profile import Profile, load_profile
from assistant.profiles.profiled_chat import describe_profile, make_responders, make_style, read_clock
from assistant.terminal.screen import Interruption, Screen
from assistant.tools.tool_declaration import ToolDeclaration
from assistant.tools.tool_files import ToolFiles, get_tools_folder
from assistant.tools.tool_requests import ToolRequests
from assistant.tools.toolbox import SEARCH_TOOL, TOOLS, Tools, make_tools
from model.grounding.answers import LINE_BREAK
from model.grounding.citations import format_place

if TYPE_CHECKING:
    from assistant.inference.local import ModelInfo

HELP = """/system TEXT  set the system prompt (without TEXT: remove it)
/stats        show the metrics of the last answer
/reset        forget this conversation
/help         show this list
/quit         quit (or Ctrl-D); Ctrl-C interrupts an answer"""
MEMORY = Path("var/memory.sqlite")
TRUNCATED = {"length": "the answer is cut at --max-tokens", "window": "the answer is cut, because the window is full"}


class Command(NamedTuple):
    """A command besides those of HELP: its line there, and the function from the text behind its name to the remark."""

    about: str
    run: Callable[[str], str]


class Chat:
    """One conversation on one screen."""

    def __init__(
        self, session: Session, sampling: Sampling, screen: Screen, commands: Mapping[str, Command] | None = None
    ) -> None:
        self.session, self.sampling, self.screen = session, sampling, screen
        self._commands = dict(commands or {})
        self._last: Done | None = None
        self._n_answers = 0

    def run(self) -> int:
        """Run the conversation until the user quits. Return the exit code."""
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
                self.screen.remark("press Ctrl-C again, or Ctrl-D, to quit")
                continue
            is_warned = False
            if line.startswith("/"):
                if not self.run_command(line):
                    return 0
            elif line.strip() or not self.session.engine.is_chat:
                is_warned = self.answer(line.strip())

    def run_command(self, line: str) -> bool:
        """Run a command. Return False to quit."""
        name, _, text = line.strip().partition(" ")
        if name == "/quit":
            return False
        if name == "/help":
            self.screen.remark("\n".join([command.about for command in self._commands.values()] + [HELP]))
        elif name in self._commands:
            self.screen.remark(self._commands[name].run(text.strip()))
        elif name == "/stats":
            self.screen.remark(format_stats(self._last) if self._last else "there is no complete answer yet")
        elif name == "/reset":
            self.session.reset()
            self.screen.remark("conversation forgotten" + ("; the system prompt stays" if self.session.system else ""))
        elif name == "/system":
            self.session.system = text.strip()
            self.screen.remark("the system prompt is set" if text.strip() else "the system prompt is removed")
        else:
            self.screen.remark(f"unknown command {name}; /help lists them (begin a message with a space to send it)")
        return True

    def answer(self, text: str) -> bool:
        """Show the answer to a message. Return True if Ctrl-C interrupted it."""
        is_empty, last, citations = True, None, list[Citation]()
        sampling = replace(self.sampling, seed=(self.sampling.seed + self._n_answers) % 2**63)
        self._n_answers += 1
        with Interruption() as interruption, closing(self.session.send(text, sampling)) as events:
            for event in events:
                if isinstance(event, TextPiece):
                    self.screen.write(render_text(event.text, citations))
                    is_empty = is_empty and not event.text.strip()
                elif isinstance(event, Citation):
                    citations.append(event)
                elif isinstance(event, ToolResult):
                    self._show_tool(event)
                elif isinstance(event, Recalled):
                    self.screen.remark(f"recalled [memory {event.number}] {event.text} ({event.source})")
                elif isinstance(event, Notice):
                    self.screen.remark(event.text)
                elif isinstance(event, Done):
                    last = event
                if interruption.is_requested:
                    break
        self.screen.end_answer()
        for number, citation in enumerate(citations, 1):
            self.screen.remark(f"[{number}] {format_place(citation)}")
        if interruption.is_requested:
            self.screen.remark("interrupted")
        elif is_empty:
            self.screen.remark("the answer is empty")
        if last is not None and not interruption.is_requested:
            self._last = last
            if last.reason in TRUNCATED:
                self.screen.remark(TRUNCATED[last.reason])
        return interruption.is_requested

    def _show_tool(self, result: ToolResult) -> None:
        call = f"{result.call.name}({result.call.argument})"
        if result.call.name != "search_docs":
            self.screen.remark_truncated(f"{call} → {result.text}")
            return
        self.screen.remark_truncated(call)
        results = result.search.results if result.search is not None else ()
        places = {found.line: describe_place(found) for found in results if found.collection}
        for line in result.text.splitlines():
            self.screen.remark_truncated(f"  {line}")
            if line in places:
                self.screen.remark_truncated(f"    {places[line]}")
        for note in result.search.notes if result.search is not None else ():
            self.screen.remark(f"  {note}")


def render_text(text: str, citations: Sequence[Citation]) -> str:
    """Return text of an answer as the screen shows it: numbers for the cited titles, code on lines of its own."""
    for number, citation in reversed(list(enumerate(citations, 1))):
        text = text.replace(f'{citation.text}" [{citation.title}]', f'{citation.text}" [{number}]', 1)
    return text.replace(LINE_BREAK, "\n") if citations else text


def format_stats(done: Done) -> str:
    """Return the metrics of a generation in one line."""
    rate = f", {done.tokens_per_second:.0f} tokens/s" if done.n_tokens > 1 else ""
    tokens = "1 token" if done.n_tokens == 1 else f"{done.n_tokens} tokens"
    prompt = f"prompt of {done.n_prompt_tokens} tokens, {done.n_cached_tokens} cached"
    return f"{tokens}{rate}, first token after {done.first_token_seconds:.2f} s; {prompt}"


def main(argv: list[str] | None = None) -> int:
    """Run the chat. Return the exit code."""
    args = _make_parser().parse_args(argv)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return _start_chat(args).run()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has closed the pipe; flushing the buffer at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _start_chat(args: argparse.Namespace) -> Chat:
    sampling = Sampling(**{setting.name: getattr(args, setting.name) for setting in fields(Sampling)})
    choice = choose_model(args.model, args.index, Path())
    offered = [each for each in ToolFiles(get_tools_folder()).declarations if not each.is_harmful]
    known = (*TOOLS, SEARCH_TOOL, *(each.name for each in offered))
    profile = load_profile(args.profile, known) if args.profile else None
    if profile is not None and not profile.documentation:
        choice = replace(choice, index=None)
    tools = _make_tools(choice, profile, args.collection, offered)
    history = Path("var/chat_history") if Path("var").is_dir() else None
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    remembering = open_memory(_choose_memory_file(args, is_terminal), choice.embed, read_clock)
    others = [remembering] if remembering is not None else []
    responders: list[Responder] = (
        make_responders(profile, tools, args.learner, others=others) if profile else [ToolRequests(tools), *others]
    )
    # Imported here, because importing torch takes a second, which usage errors should not take.
    from assistant.inference.adapters import AdapterEngines, get_adapters_folder
    from assistant.inference.local import ModelEngine

    folder = None if args.no_guard else find_guard(choice.folder)
    guard = None if folder is None else Guard.load(folder)
    if guard is not None:
        tools, responders = ScreenedTools(tools, guard), [GuardResponder(guard), *responders]
    engine = ModelEngine.load(choice.folder, weights=args.weights)
    if args.adapter is not None:
        engine = engine.adapt(args.adapter)
    elif profile is not None and profile.adapter is not None:
        engine = AdapterEngines(engine, get_adapters_folder()).get(profile.adapter)
    screen = Screen(is_terminal=is_terminal, history_file=history)
    for line in format_banner(engine.info, tools, choice):
        screen.remark(line)
    screen.remark(f"guard: {folder or 'none: what is asked and said is not screened'}")
    for notice in tools.documents.notices if isinstance(tools.documents, Knowledge) else ():
        screen.remark(notice)
    session = Session(
        engine if guard is None else ScreenedEngine(engine, guard),
        tools,
        system=args.system or (profile.render(profile.system_prompt) if profile else ""),
        grounded=args.grounded or (profile.grounding if profile else Grounding.PREFER),
        responders=responders,
        style=make_style(profile) if profile else None,
    )
    commands: dict[str, Command] = {}
    if profile is not None:
        described = describe_profile(profile)
        commands["/profile"] = Command("/profile      show the profile", lambda _: described)
        screen.remark(profile.render(profile.greeting) or described)
    if remembering is not None:
        runs = make_commands(remembering, read_clock, history)
        commands |= {name: Command(ABOUT[name], run) for name, run in runs.items()}
        screen.remark(f"memory: {remembering.store.path}; say: remember that …; /memories shows, /forget deletes")
    return Chat(session, sampling, screen, commands)


def _choose_memory_file(args: argparse.Namespace, is_terminal: bool) -> Path | None:
    """Return where sentences are remembered: as the flags say, else on a terminal only."""
    if args.no_memory:
        return None
    return args.memory or (MEMORY if is_terminal and Path("var").is_dir() else None)


def _make_tools(
    choice: ModelChoice, profile: Profile | None, collections: Sequence[str], offered: Sequence[ToolDeclaration]
) -> Tools:
    """Return the tools that a profile allows, with the collections of both the profile and the command line. Of the tools of files
    those are `offered` that neither write nor run nor leave: nothing here decides about the others (docs/tools.md)."""
    names = [*profile.collections, *collections] if profile is not None else collections
    tools = make_tools(choice.index, choice.embed, names).add({each.name: each.call_with_text for each in offered})
    return tools.keep(profile.tools) if profile is not None else tools


def format_banner(info: ModelInfo, tools: Tools, choice: ModelChoice) -> list[str]:
    """Return lines that describe the model, its origin, phase and size, and its tools."""
    size = f"{info.n_parameters / 1e6:.2f} M parameters, {info.weight_bytes / 1e6:.1f} MB, window {info.seq_len} tokens"
    weights = "" if info.weights == "float32" else f", {info.weights} weights"
    lines = [f"MiniGPT, {size}, on {info.device}{weights}", f"phase {info.phase}, from {info.folder}: {choice.reason}"]
    if info.adapter:
        lines.append(f"with the adapter {info.adapter}")
    if info.phase == "pretrain":
        return [
            *lines,
            "a base model: it continues your text, or on an empty line begins one; no chat, history or tools",
        ]
    names = [name for name in tools.names if name != "search_docs"]
    return [*lines, f"tools: {', '.join([*names, _describe_search(tools, choice)])}; /help lists the commands"]


def _describe_search(tools: Tools, choice: ModelChoice) -> str:
    """Describe what search_docs searches."""
    if tools.documents is None:
        return f"no search_docs, because there is no index next to {choice.folder} (name one with --index FOLDER)"
    words = "names, words and vectors" if choice.embed is not None else "names and words (no folder embed beside it)"
    names = tools.documents.collection_names if isinstance(tools.documents, Knowledge) else ()
    named = [f"collection {name}" for name in names]
    places = " and ".join([*([str(choice.index)] if choice.index else []), *named]) or "nothing"
    return f"search_docs over {len(tools.documents):,} sections from {places}, by {words}"


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m assistant", description="Chat with a model.")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help=f"model folder (default: {CHAMPION / 'model'}, else the newest finished model)",
    )
    parser.add_argument(
        "--index",
        type=Path,
        metavar="FOLDER",
        help="index folder that search_docs searches, with the folder embed beside it (default: index next to the model)",
    )
    parser.add_argument(
        "--adapter",
        type=Path,
        metavar="FOLDER",
        help="adapter of this model, as sft writes it with sft.adapter (default: the profile's, else none)",
    )
    parser.add_argument(
        "--collection",
        action="append",
        default=[],
        metavar="NAME",
        help="also search this collection of your own documents (python -m assistant.knowledge); may be repeated",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8", "int4"),
        help="format in memory, all but float32 on a CPU only; int8: a quarter of the memory, int4: a fifth (default: "
        "MINIGPT_WEIGHTS or float32)",
    )
    parser.add_argument(
        "--grounded",
        choices=tuple(Grounding),
        help="only: nothing without a source but small talk; prefer: quotations are verified; off: unchecked (default: "
        "the profile's, else prefer)",
    )
    parser.add_argument(
        "--no-guard",
        action="store_true",
        help="do not screen messages, passages and answers (guard: the folder beside the model)",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="tutor, policy, support, or a YAML file: name, documents, rules of the assistant",
    )
    parser.add_argument(
        "--memory",
        type=Path,
        metavar="FILE",
        help=f"remember sentences there (default: {MEMORY} on a terminal, none in a pipe)",
    )
    parser.add_argument("--no-memory", action="store_true", help="remember nothing beyond the conversation")
    parser.add_argument("--learner", default="learner", metavar="NAME", help="whose log a tutor keeps (%(default)s)")
    parser.add_argument("--system", default="", metavar="TEXT", help="system prompt")
    for setting in fields(Sampling):
        flag, kind = f"--{setting.name.replace('_', '-')}", int if setting.type == "int" else float
        text = f"{setting.metadata['about']} (%(default)s)"
        parser.add_argument(flag, type=kind, default=setting.default, metavar="N", help=text)
    return parser
