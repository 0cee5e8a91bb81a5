"""Let the assistant answer from your own documents: add them to a collection, search it, remove them again.

    python -m assistant.knowledge add handbook/ notes.pdf https://example.org/faq.html --collection handbook
    python -m assistant.knowledge search "how many days of leave" --collection handbook
    python -m assistant --collection handbook

Reads Markdown, reStructuredText, HTML, PDF, Word (.docx) and plain text, also compressed, in folders, in .zip and .tar, and at
URLs. Nothing is trained and nothing leaves this machine. Adding the same folder again reads what is new or has changed, and
removes what is gone. Exit codes: 0 success, 1 user error, 2 usage, 130 interrupted (what was committed stays; run add again to
continue).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from assistant.knowledge import commands
from assistant.knowledge.pipeline_door import TAKEDOWNS


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m assistant.knowledge", description=__doc__, formatter_class=raw)
    sub = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(
        name: str, text: str, run: Callable[[argparse.Namespace], None], *, is_named: bool = True
    ) -> argparse.ArgumentParser:
        command = sub.add_parser(name, help=text, description=text)
        command.add_argument(
            "--collection", metavar="NAME", required=is_named, help="the collection, such as handbook; add makes it"
        )
        command.set_defaults(run=run)
        return command

    command = add("add", "add documents: files, folders, archives, URLs; or bring them up to date", commands.run_add)
    command.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder, an archive or a URL")
    command.add_argument(
        "--license", default="unknown", metavar="SPDX", help="license of these documents (%(default)s)"
    )
    command.add_argument(
        "--takedowns", type=Path, default=TAKEDOWNS, metavar="FILE", help="what must not be added (%(default)s)"
    )
    command = add("list", "list the collections, or the documents of one", commands.run_list, is_named=False)
    command.add_argument("--json", action="store_true", help="print one JSON object per line")
    command = add("search", "search a collection as the assistant does, and show every place", commands.run_search)
    command.add_argument("query", help="a few words, a title, or a question")
    command.add_argument("--limit", type=int, default=3, metavar="N", help="number of passages (%(default)s)")
    command.add_argument("--trace", action="store_true", help="also show how each passage was found")
    _add_embed(command)
    command = add(
        "remove", "remove documents, or everything: their bytes are deleted from every file", commands.run_remove
    )
    command.add_argument("keys", nargs="*", metavar="DOCUMENT", help="path, folder, URL or id, as `list` shows them")
    command.add_argument("--everything", action="store_true", help="remove the whole collection")
    command = add("rebuild", "write the search index of a collection anew, from its own sections", commands.run_rebuild)
    command.add_argument(
        "--store", metavar="STORE", help="where vectors are searched: exact, faiss, or the URI of a Milvus server"
    )
    _add_embed(command)
    command = add("evaluate", "measure the search with questions whose sections are known", commands.run_evaluate)
    command.add_argument("file", type=Path, help='JSON lines: {"question": "…", "sections": ["title or heading", …]}')
    command.add_argument("--json", action="store_true", help="print one JSON object")
    _add_embed(command)
    command = add(
        "takedown", "remove from all collections what has been taken down", commands.run_takedown, is_named=False
    )
    command.add_argument("--takedowns", type=Path, default=TAKEDOWNS, metavar="FILE", help="the list (%(default)s)")
    return parser


def _add_embed(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--embed",
        type=Path,
        metavar="FOLDER",
        help="embedder and reranker (default: the champion's, else data/embed, if there is one)",
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    args = make_parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # the disk is full, or a folder can't be written
        print(
            f"error: {args.command}: {error.strerror}; found {error.filename}; correct it and run again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was committed stays, run it again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
