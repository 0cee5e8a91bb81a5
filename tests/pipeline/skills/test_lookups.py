"""Questions, answers and their closed forms."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.grounding.answers import format_abstention, format_quote, is_abstention, parse_quote
from model.grounding.matching import is_about
from pipeline.skills.lookups import contains_name
from pipeline.skills.neighbors import PassageIndex, is_quotable
from pipeline.skills.quote import make_abstention, make_quote
from pipeline.skills.refusal import is_refusal
from pipeline.skills.search import extract_task
from pipeline.skills.skill import Material
from pipeline.skills.wordings import SYMBOL, ask_name, shorten_name
from pipeline.text.passage import Passage

NAME = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8}){0,3}", fullmatch=True)


def make_passage(title: str, sentence: str = "Compute the norm of it.") -> Passage:
    return Passage(
        title, title, f"{title.rpartition('.')[2]}(x): {sentence} More.", sentence, "python_docs/a", "MIT", True
    )


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
    assert all(wording.count("{x}") == 1 for wording in SYMBOL)
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


def test_only_whole_names_are_found() -> None:
    assert contains_name("see a.norm, or", "norm")
    assert contains_name("norm", "norm")
    assert not contains_name("normal norms _norm norm_2 norm.x", "norm")


def test_a_quote_is_in_its_context_and_a_withheld_name_is_not() -> None:
    index = PassageIndex(
        [make_passage(f"{module}.{tail}") for module in ("a.b", "a.c", "d") for tail in ("norm", "sum_rows", "mean")]
    )
    material = Material(index.passages, index, index)
    rng = Random(3)
    is_second = set[bool]()
    for number in range(300):
        subject = index.passages[number % len(index.passages)]
        assert is_quotable(subject)
        example = make_quote(subject, material, rng)
        assert parse_quote(example.messages[-1].text) == (
            example.expected["symbol"],
            subject.sentence,
            subject.title,
        )
        context = example.messages[-2].text
        is_second.add(context.find(f"[{subject.title}]") > context.find("["))
        example = make_abstention(subject, material, rng)
        if example is not None:
            symbol = example.expected["symbol"]
            assert is_abstention(example.messages[-1].text, symbol)
            if example.messages[-2].role == "tool":
                assert not contains_name(example.messages[-2].text, symbol)
    assert is_second == {False, True}
