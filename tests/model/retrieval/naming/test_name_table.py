"""Names by their ends, and by edit distance as computed cell by cell."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.retrieval.naming.name_table import NameTable, write_names

NAMES = ["numpy.linalg.norm", "scipy.linalg.norm", "NumPy.Norm", "norm", "abnorm", "linalg.normal", "x.norm.y"]
PART = st.text("abc", min_size=1, max_size=4)
NAME = st.lists(PART, min_size=1, max_size=3).map(".".join)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> NameTable:
    path = tmp_path_factory.mktemp("names") / "names.arrow"
    write_names(path, [(name, row) for row, name in enumerate(NAMES)])
    return NameTable.open(path, len(NAMES))


@pytest.mark.parametrize(
    "tail", ["norm", "linalg.norm", "NORM", "numpy.linalg.norm", "orm", "", ".", "norm.y", "a" * 1_000]
)
def test_names_are_found_by_their_ends(table: NameTable, tail: str) -> None:
    ends = [row for row, name in enumerate(NAMES) if f".{name.lower()}".endswith(f".{tail.lower()}")] if tail else []
    assert sorted(table.find_ending(tail)) == ends
    assert sorted(table.find(tail)) == [row for row, name in enumerate(NAMES) if name.lower() == tail.lower()]


def measure_slowly(one: str, other: str) -> int:
    """Compute the restricted Damerau–Levenshtein distance."""
    rows = [[max(i, j) if not i or not j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (one[i - 1] != other[j - 1]))
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@settings(max_examples=80)
@given(names=st.lists(NAME, min_size=1, max_size=6, unique=True), asked=NAME, limit=st.integers(1, 3))
def test_the_closest_names_are_those_of_the_smallest_distance(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], asked: str, limit: int
) -> None:
    path = tmp_path_factory.mktemp("names") / "names.arrow"
    write_names(path, [(name, row) for row, name in enumerate(names)])
    n = asked.count(".") + 1
    # Compared from the last part on, as the keys are.
    reverse = {name: ".".join(reversed(name.split(".")[-n:])) for name in [*names, asked] if name.count(".") + 1 >= n}
    distances = {
        row: measure_slowly(reverse[name], reverse[asked]) for row, name in enumerate(names) if name in reverse
    }
    least = min(distances.values(), default=limit + 1)
    expected = sorted((row, least) for row, distance in distances.items() if distance == least <= limit)
    assert sorted(NameTable.open(path, len(names)).find_similar(asked, limit)) == expected
