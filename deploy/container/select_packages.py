"""Print the entries of the locks for the packages that the service needs: a lock for the container, with hashes.

    python select_packages.py packages.txt requirements.lock requirements-test.lock > service.lock

Standard library only: it runs before anything is installed. A package that no lock has is an error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def select_packages(names: list[str], locks: list[str]) -> str:
    """Return the entries of these packages, from the first lock that has each. Raises: ValueError for one that none has."""
    entries: dict[str, str] = {}
    for lock in locks:
        for entry in re.split(r"\n(?=[a-z0-9])", lock):
            if match := re.match(r"([a-z0-9-]+)==", entry):
                entries.setdefault(match[1], entry.rstrip())
    if missing := [name for name in names if name not in entries]:
        raise ValueError(f"packages.txt: must be packages of the locks; found {', '.join(missing)}; correct it.")
    return "\n".join(entries[name] for name in names) + "\n"


def main(paths: list[str]) -> int:
    """Run the command. Return the exit code."""
    texts = [Path(path).read_text(encoding="utf-8") for path in paths]
    names = [line.strip() for line in texts[0].splitlines() if line.strip() and not line.startswith("#")]
    try:
        print(select_packages(names, texts[1:]), end="")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
