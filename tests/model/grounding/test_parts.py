"""Answers that code knows: the part that was asked for, or what has it instead; the rest is left to the model."""

from __future__ import annotations

import pytest

from model.grounding.answers import format_abstention, format_quote, list_answers
from model.grounding.parts import narrow_answers

MAIN = '[numpy.sum] "Sum of array elements." Returns a scalar. It raises ValueError for odd axes. — sum(a, axis=None) -> ndarray'
PARAMETERS = (
    '[numpy.sum: parameters] "a: array_like. Elements to sum." "axis: int. Axis along which a sum is performed."'
)
AXIS = '[numpy.sum: axis] "axis: int. Axis along which a sum is performed."'


def narrow(asked: str, result: str) -> list[str]:
    return narrow_answers(asked, result, list_answers(asked, result))


@pytest.mark.parametrize(
    ("asked", "result", "piece", "title"),
    [
        ("np.sum: axis", AXIS, "axis: int. Axis along which a sum is performed.", "numpy.sum: axis"),
        (
            "numpy.sum: parameters",
            PARAMETERS,
            'a: array_like. Elements to sum." "axis: int. Axis along which a sum is performed.',
            "numpy.sum: parameters",
        ),
        ("numpy.sum: axis", PARAMETERS, "axis: int. Axis along which a sum is performed.", "numpy.sum: parameters"),
        ("numpy.sum: parameters", MAIN, "sum(a, axis=None) -> ndarray", "numpy.sum"),
        ("numpy.sum: signature", MAIN, "sum(a, axis=None) -> ndarray", "numpy.sum"),
        ("numpy.sum: returns", MAIN, "Returns a scalar.", "numpy.sum"),
        ("numpy.sum: raises", MAIN, "It raises ValueError for odd axes.", "numpy.sum"),
        ("numpy.sum: a", MAIN, "Returns a scalar.", "numpy.sum"),
    ],
)
def test_a_part_has_one_answer(asked: str, result: str, piece: str, title: str) -> None:
    assert narrow(asked, result) == [format_quote(asked, piece, title)]


def test_entries_that_are_no_one_quotation_are_several() -> None:
    asked = "numpy.sum: parameters"
    answers = [answer for answer in list_answers(asked, PARAMETERS) if '" "' not in answer]
    (narrowed,) = narrow_answers(asked, PARAMETERS, answers)
    assert [line.partition(': "')[2].partition(":")[0] for line in narrowed.split("\n")] == ["a", "axis"]
    assert set(narrowed.split("\n")) <= set(answers)


@pytest.mark.parametrize("facet", ["examples", "dtype", "notes"])
def test_a_part_that_is_not_there_is_abstained_from(facet: str) -> None:
    assert narrow(f"numpy.sum: {facet}", MAIN) == [format_abstention(f"numpy.sum: {facet}")]


def test_a_corrected_name_is_quoted() -> None:
    answers = narrow("numpy.smu", MAIN.replace("numpy.sum", "numpy.smut"))
    assert answers
    assert format_abstention("numpy.smu") not in answers


@pytest.mark.parametrize(
    ("asked", "result"),
    [
        ("add numbers", MAIN),
        ("numpy.sum; numpy.prod", MAIN),
        ("scipy.sum", MAIN),
        ("numpy.sum: axis", "No passage found."),
        ("numpy.sum", MAIN),
    ],
)
def test_the_rest_is_left_to_the_model(asked: str, result: str) -> None:
    assert narrow(asked, result) == list_answers(asked, result)
