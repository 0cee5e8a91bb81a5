"""Questions, answers and the forms they take."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.skills.answers import abstention, is_abstention, is_refusal, parse_quote, quote, result
from pipeline.skills.lookups import Shelf, abstain_example, is_quotable, names_in, quote_example
from pipeline.skills.wordings import SYMBOL, ask_name, is_about, short_name, task_words
from pipeline.text.passage import Passage

NAME = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8}){0,3}", fullmatch=True)


def passage(title: str, sentence: str = "Compute the norm of it.") -> Passage:
    return Passage(
        title, title, f"{title.rpartition('.')[2]}(x): {sentence} More.", sentence, "python_docs/a", "MIT", True
    )


@given(NAME, st.text(alphabet="ab \"'[]:.", min_size=1, max_size=30), NAME)
def test_a_quote_is_read_back_as_it_was_written(asked: str, sentence: str, title: str) -> None:
    assert parse_quote(quote(asked, sentence, title)) == (asked, sentence, title)


@given(NAME)
def test_an_abstention_is_one_for_its_name_and_no_quote(name: str) -> None:
    assert is_abstention(abstention(name), name)
    assert parse_quote(abstention(name)) is None
    assert is_abstention(abstention(), "")
    assert not is_abstention(quote(name, "A sentence.", name), name)
    assert not is_abstention(abstention("other"), "qq.zz")


def test_refusals_and_results() -> None:
    assert is_refusal("I can't help with that, because it could hurt people.")
    assert not is_refusal("I don't know that.")
    assert result("1 / 0", "error: division by zero") == "I can't calculate that: division by zero."
    assert result("6 * 7", "42") == "6 * 7 = 42"


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
def test_which_passage_answers(title: str, name: str, expected: bool) -> None:
    assert is_about(title, name) is expected


@pytest.mark.parametrize("seed", range(50))
def test_short_names_still_name_their_passage(seed: int) -> None:
    for title in ("numpy.linalg.norm", "pandas.DataFrame.read_csv", "abc", "torch.nn.functional.relu_"):
        assert is_about(title, short_name(title, Random(seed)))


def test_wordings_hold_the_name_once_and_differ() -> None:
    assert len(set(SYMBOL)) == len(SYMBOL) >= 60
    assert all(wording.count("{x}") == 1 for wording in SYMBOL)
    rng = Random(1)
    assert all("a.b_c" in ask_name("a.b_c", rng).question for _ in range(100))


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("Compute the norm of a matrix.", "compute the norm of a matrix"),
        ("Returns the sum of all values", "get the sum of all values"),
        ("A class of things.", None),
        ("Return ``x`` as it is.", None),
        ("Sort.", None),
    ],
)
def test_tasks_in_words(sentence: str, words: str | None) -> None:
    assert task_words(sentence, Random(1)) == words


def test_names_are_found_whole_only() -> None:
    assert names_in("see a.norm, or", "norm")
    assert names_in("norm", "norm")
    assert not names_in("normal norms _norm norm_2 norm.x", "norm")


def test_examples_keep_their_promises() -> None:
    shelf = Shelf(
        [passage(f"{module}.{tail}") for module in ("a.b", "a.c", "d") for tail in ("norm", "sum_rows", "mean")]
    )
    rng = Random(3)
    places = set[int]()
    for turn in range(300):
        subject = shelf.passages[turn % len(shelf.passages)]
        assert is_quotable(subject)
        example = quote_example(subject, shelf, rng)
        assert parse_quote(example.messages[-1].text) == (
            example.expected["symbol"],
            subject.sentence,
            subject.title,
        )
        context = example.messages[-2].text
        places.add(context.find(f"[{subject.title}]") > context.find("["))
        example = abstain_example(subject, shelf, shelf, rng)
        if example is not None:
            symbol = example.expected["symbol"]
            assert is_abstention(example.messages[-1].text, symbol)
            if example.messages[-2].role == "tool":
                assert not names_in(example.messages[-2].text, symbol)
    assert places == {False, True}
