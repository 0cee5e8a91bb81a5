"""The table of docs/api.md: features × clients, from the list of checks, all of which pass in the tests.

python -m tests.service.api.clients.api_table      writes it
"""

from __future__ import annotations

import sys

from tests.conftest import ROOT
from tests.service.api.clients.__main__ import MODULES
from tests.service.api.clients.check_list import FEATURES

GUIDE = ROOT / "docs" / "api.md"
BEGIN, END = "<!-- clients: begin -->\n", "<!-- clients: end -->\n"


def count_checks() -> dict[tuple[str, str], int]:
    """Return the number of checks of each (client, feature). The clients themselves are not imported: modules are read."""
    counts: dict[tuple[str, str], int] = {}
    for client, module in MODULES.items():
        source = (ROOT / "tests/service/api/clients" / f"{module}.py").read_text(encoding="utf-8")
        for feature in FEATURES:
            n = source.count(f'@check(CLIENT, "{feature}")') + source.count(f'@check("{client}", "{feature}")')
            counts[client, feature] = n
    return counts


def make_table() -> str:
    """Return the table: how many calls of each client are checked."""
    counts = count_checks()
    lines = ["| calls | " + " | ".join(MODULES) + " |", "|---" * (len(MODULES) + 1) + "|"]
    for feature, about in FEATURES.items():
        cells = [str(counts[client, feature] or "–") for client in MODULES]
        lines.append(f"| {about} | " + " | ".join(cells) + " |")
    totals = [str(sum(counts[client, feature] for feature in FEATURES)) for client in MODULES]
    lines.append("| all | " + " | ".join(totals) + " |")
    return "\n".join(lines) + "\n"


def replace_table(text: str) -> str:
    """Return the guide with the present table."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + make_table() + END + rest.partition(END)[2]


def main() -> int:
    """Write the table into the guide."""
    GUIDE.write_text(replace_table(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
