from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.training.schedule import Schedule


@given(st.integers(1, 500), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1))
def test_schedule_rises_stays_constant_and_falls(total: int, warmup: float, decay: float, final: float) -> None:
    schedule = Schedule(total_steps=total, warmup_frac=warmup, decay_frac=decay, final_lr_frac=final)
    values = [schedule(step) for step in range(total)]
    assert all(0 < value <= 1 for value in values)
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_schedule_values() -> None:
    schedule = Schedule(total_steps=100, warmup_frac=0.1, decay_frac=0.2, final_lr_frac=0.1)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(9) == schedule(79) == 1.0
    assert 0.1 < schedule(99) < 0.15


@pytest.mark.parametrize("bad", [{"warmup_frac": -0.1}, {"decay_frac": 1.2}, {"warmup_frac": 0.6, "decay_frac": 0.6}])
def test_invalid_fractions_are_rejected(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"schedule.{next(iter(bad))}"):
        Schedule(total_steps=10, **bad)
