"""Questions about names and parts of their documentation, and the one right answer to what the search returns."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.grounding.answers import format_abstention, format_quote, is_abstention, parse_passages, parse_quote
from model.grounding.matching import is_about
from pipeline.skills import comparisons, conversions, facets, followups
from pipeline.skills.facets import FACETS, list_parameters
from pipeline.skills.lookups import PLANTED, answer_query, plant_instruction
from pipeline.skills.neighbors import NameIndex, Subject, misspell
from pipeline.skills.refusal import is_refusal
from pipeline.skills.search import extract_task
from pipeline.skills.skill import Material
from pipeline.skills.wordings import NEW_SYMBOL, SYMBOL, ask_name, is_method, shorten_name, type_member

NAME = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8}){0,3}", fullmatch=True)


@given(NAME, st.text(alphabet="ab \"'[]:.", min_size=1, max_size=30), NAME)
def test_a_quote_is_parsed_back_into_its_parts(asked: str, sentence: str, title: str) -> None:
    assert parse_quote(format_quote(asked, sentence, title)) == (asked, sentence, title)


@given(NAME)
def test_an_abstention_is_recognized_for_its_name_only_and_is_no_quote(name: str) -> None:
    assert is_abstention(format_abstention(name), name)
    assert parse_quote(format_abstention(name)) is None
    assert is_abstention(format_abstention(), "")
    assert not is_abstention(format_quote(name, "A sentence.", name), name)
    assert not is_abstention(format_abstention("other"), "qq.zz")


def test_refusals_are_recognized() -> None:
    assert is_refusal("I can't help with that, because it could hurt people.")
    assert not is_refusal("I don't know that.")


@pytest.mark.parametrize(
    ("title", "name", "expected"),
    [
        ("numpy.linalg.norm", "numpy.linalg.norm", True),
        ("numpy.linalg.norm", "linalg.norm", True),
        ("numpy.linalg.norm", "np.linalg.norm", True),
        ("matplotlib.pyplot.plot", "plt.plot", True),
        ("scipy.linalg.norm", "numpy.linalg.norm", False),
        ("numpy.linalg.norm", "alg.norm", False),
        ("numpy.linalg.norm", "numpy.linalg", False),
    ],
)
def test_a_passage_answers_for_its_name_its_ending_and_its_alias(title: str, name: str, expected: bool) -> None:
    assert is_about(title, name) is expected


@pytest.mark.parametrize("seed", range(50))
def test_shortened_names_still_name_their_passage(seed: int) -> None:
    for title in ("numpy.linalg.norm", "pandas.DataFrame.read_csv", "abc", "torch.nn.functional.relu_"):
        assert is_about(title, shorten_name(title, Random(seed)))


def test_wordings_contain_the_name_once_and_differ() -> None:
    assert len(set(SYMBOL)) == len(SYMBOL) >= 60
    assert all(wording.count("{x}") == 1 for wording in (*SYMBOL, *NEW_SYMBOL))
    rng = Random(1)
    assert all("a.b_c" in ask_name("a.b_c", rng).question for _ in range(100))


@pytest.mark.parametrize(
    ("sentence", "task"),
    [
        ("Compute the norm of a matrix.", "compute the norm of a matrix"),
        ("Returns the sum of all values", "get the sum of all values"),
        ("A class of things.", None),
        ("Return ``x`` as it is.", None),
        ("Sort.", None),
    ],
)
def test_tasks_are_extracted_from_sentences_that_start_with_a_verb(sentence: str, task: str | None) -> None:
    assert extract_task(sentence, Random(1)) == task


MAIN = '[a.norm] "Compute the norm." Raises an error if x is empty. — norm(x, axis=None) -> float'
FACET = '[a.norm: parameters] "x: array." "axis: int or None. The axis to use."'


@pytest.mark.parametrize(
    ("query", "result", "text"),
    [
        ("a.norm", MAIN, "Compute the norm."),
        ("norm", MAIN, "Compute the norm."),
        ("a.norm: parameters", FACET, 'x: array." "axis: int or None. The axis to use.'),
        ("a.norm: parameters", MAIN, "norm(x, axis=None) -> float"),
        ("a.norm: signature", MAIN, "norm(x, axis=None) -> float"),
        ("a.norm: axis", '[a.norm: axis] "axis: int or None."', "axis: int or None."),
        ("a.norm: axis", MAIN, "norm(x, axis=None) -> float"),
        ("a.norm: returns", MAIN, "norm(x, axis=None) -> float"),
        ("a.norm: returns", '[a.norm] "Compute it." Return its value. — norm(x)', "Return its value."),
        ("a.norm: raises", MAIN, "Raises an error if x is empty."),
        ("a.norm: examples", '[a.norm: examples] ">>> norm([]) ⏎ 0"', ">>> norm([]) ⏎ 0"),
        ("a.norm", '[a.b.norm] "Compute another." — norm(x)', "Compute another."),  # the same package and last part
    ],
)
def test_the_right_answer_is_the_piece_that_was_asked_for(query: str, result: str, text: str) -> None:
    quoted = parse_quote(answer_query(query, parse_passages(result)) or "")
    assert quoted is not None
    assert (quoted.asked, quoted.text) == (query, text)


@pytest.mark.parametrize("facet", ["examples", "notes", "key"])
def test_a_missing_part_is_not_answered(facet: str) -> None:
    assert answer_query(f"a.norm: {facet}", parse_passages(MAIN)) == format_abstention(f"a.norm: {facet}")


@pytest.mark.parametrize("sentence", ["``a.norm``", ".. seealso:: this"])
def test_markup_is_no_answer(sentence: str) -> None:
    assert answer_query("a.norm", parse_passages(f'[a.norm] "{sentence}" — norm(x)')) is None


@pytest.mark.parametrize(
    ("title", "expected"),
    [("pandas.DataFrame.head", True), ("str.split", False), ("numpy.linalg.norm", False), ("a.B", False)],
)
def test_methods_are_told_by_the_capital_of_their_class(title: str, expected: bool) -> None:
    assert is_method(title) is expected
    assert type_member(title, Random(1)).endswith("." + title.rpartition(".")[2])


def test_no_rule_answers_for_a_name_of_another_package() -> None:
    assert answer_query("b.norm", parse_passages(MAIN)) is None


def test_a_planted_instruction_changes_no_answer() -> None:
    rng = Random(1)
    planted = {plant_instruction(MAIN, rng) for _ in range(600)}
    assert len(planted) > 5
    for result in planted - {MAIN}:
        assert any(sentence in result for sentence in PLANTED)
        for query in ("a.norm", "a.norm: signature"):
            assert answer_query(query, parse_passages(result)) == answer_query(query, parse_passages(MAIN))


def test_parameters_are_those_that_the_documentation_shows(nothing: Material) -> None:
    symbol = Subject("a.norm", ("parameters",))
    assert list_parameters(symbol, nothing._replace(search=lambda _argument, _question: FACET)) == ["axis"]
    assert list_parameters(symbol, nothing) == []


@given(NAME, st.integers(0, 50))
def test_a_typo_changes_the_last_part_only(name: str, seed: int) -> None:
    typed = misspell(name, Random(seed))
    assert typed.rpartition(".")[0] == name.rpartition(".")[0]
    assert abs(len(typed) - len(name)) <= 1


def test_neighbors_share_a_module_or_the_last_part() -> None:
    index = NameIndex(map(Subject, ("a.norm", "a.sum", "a._hidden", "b.c.norm", "b.mean")))
    rng = Random(2)
    assert {index.pick_sibling("a.norm", rng) for _ in range(20)} == {"a.sum"}
    assert index.pick_namesake("a.norm", rng) == "b.c.norm"
    assert index.pick_namesake("a.sum", rng) is None
    assert index.has_in_package("b.norm")
    assert not index.has_in_package("a.mean")
    assert not index.has_answer("a.mean")


def test_wordings_of_evaluation_are_not_those_of_training() -> None:
    """No wording is in both of a pair `NAME` and `NEW_NAME`, in any module."""

    def flatten(value: object) -> set[str]:
        if isinstance(value, str):
            return {value.lower().rstrip("?.")}
        values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
        return {text for each in values for text in flatten(each)}

    n_pairs = 0
    for module in (comparisons, conversions, facets, followups):
        for name, value in vars(module).items():
            if name.startswith("NEW_") and (trained := getattr(module, name.removeprefix("NEW_"), None)):
                n_pairs += 1
                assert not flatten(trained) & flatten(value) or name == "NEW_ORDERS", name
    assert not flatten(SYMBOL) & flatten(NEW_SYMBOL)
    assert not set(followups.ORDERS) & set(followups.NEW_ORDERS)
    assert n_pairs >= 10
    assert set(followups.IT_FACETS) <= set(FACETS)
