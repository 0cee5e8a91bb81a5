from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.order import CYCLE_ROWS, Order, make_fair_cycle


def measure_deviation(weights: list[float], cycle: list[int], n: int) -> float:
    """Return by how many rows a source is at most ahead of or behind its share in the first n rows."""
    drawn, total, worst = Counter[int](), sum(weights), 0.0
    for row in range(1, n + 1):
        drawn[cycle[(row - 1) % len(cycle)]] += 1
        worst = max(worst, *(abs(drawn[at] - weight / total * row) for at, weight in enumerate(weights)))
    return worst


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_shares_are_met_within_one_row_after_every_row(weights: list[int]) -> None:
    cycle = make_fair_cycle(list(map(float, weights)))
    assert measure_deviation(list(map(float, weights)), cycle, 2 * len(cycle)) < 1


@pytest.mark.parametrize("weights", [[0.7, 0.2, 0.1], [70.0, 20.0, 10.0], [1.0, 1.0, 1.0], [0.05] * 20, [3.0]])
def test_decimal_shares_are_exact(weights: list[float]) -> None:
    cycle = make_fair_cycle(weights)
    assert len(cycle) <= 20
    assert measure_deviation(weights, cycle, 200) < 1


def test_shares_finer_than_a_row_are_rounded() -> None:
    weights = [0.333333, 0.6666667, 1e-9]
    cycle = make_fair_cycle(weights)
    assert len(cycle) == CYCLE_ROWS
    counts = Counter(cycle)
    assert (counts[0], counts[2]) == (3333, 1)  # each source gets at least one row


@pytest.mark.parametrize("weights", [[], [0.0, 1.0], [-1.0], [float("nan")], [float("inf"), 1.0]])
def test_invalid_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights above 0"):
        make_fair_cycle(weights)


def test_every_row_of_every_source_occurs_once_per_epoch() -> None:
    order = Order([5, 40, 1], 3, make_fair_cycle([0.3, 0.6, 0.1]))
    drawn_rows = [order.at(number) for number in range(1000)]
    by_source = [[place for place in drawn_rows if place.source == source] for source in range(3)]
    assert [len(each) for each in by_source] == [300, 600, 100]
    for n_rows, drawn in zip([5, 40, 1], by_source, strict=True):
        for epoch in range(len(drawn) // n_rows):
            part = drawn[epoch * n_rows : (epoch + 1) * n_rows]
            assert {place.epoch for place in part} == {epoch}
            assert sorted(place.row for place in part) == list(range(n_rows))
    for number in (0, 1, 9, 10, 333, 1000):
        assert order.count_drawn(number) == [
            sum(place.source == source for place in drawn_rows[:number]) for source in range(3)
        ]
    epochs = [[place.row for place in by_source[1][epoch * 40 : epoch * 40 + 40]] for epoch in range(2)]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("n_ranks", [1, 2, 4])
def test_ranks_divide_each_step_in_any_order_of_steps(n_ranks: int) -> None:
    whole, other = (Order([7, 9], 1, make_fair_cycle([2.0, 1.0])) for _ in range(2))
    expected = [whole.at(number) for number in range(20 * 8)]
    for step in reversed(range(20)):
        parts = [place for rank in range(n_ranks) for place in other.list_step_rows(step, 8, rank, n_ranks)]
        assert parts == expected[step * 8 : step * 8 + 8]
