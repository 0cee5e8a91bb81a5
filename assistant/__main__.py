"""python -m assistant [--model FOLDER] [--index FOLDER]: chat with the champion in a terminal or through a pipe."""

from __future__ import annotations

import sys

from assistant.terminal.repl import main

if __name__ == "__main__":
    sys.exit(main())
