"""The decision table fits the terminal, and nothing in it is markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.registry.listing import print_verdict_table
from pipeline.report.decision import DecisionRow

MISSING = (None, None, None, None)
ROWS = [
    DecisionRow(
        "bpb",
        "Bits [red]per[/] byte",
        1.4,
        1.38,
        -0.02,
        -0.03,
        -0.01,
        "better",
        "paired over 1,204 items, seed noise 0.0031",
    ),
    DecisionRow(
        "x_frac", "A skill with a long title", 0.9, *MISSING, "not compared", "the candidate was not measured on it"
    ),
]


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits_and_shows_every_part(width: int) -> None:
    output = io.StringIO()
    print_verdict_table(Console(file=output, width=width), ROWS)
    printed = output.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    numbers = ("1.4000", "1.3800", "−0.0200", "−0.0300 … −0.0100", "90.0 %")
    for part in ("Bits [red]per[/]", "better", "not compared", *numbers):
        assert part in printed
    assert "…" not in printed.replace(" … ", ""), "nothing is cut"
