"""Test how superscripts and subscripts read, in web pages and in wikitext."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.superscripts import END, MARKS, SUB, SUP, mark_scripts, render_scripts
from pipeline.download.pages.web_page import read_html
from pipeline.download.pages.wiki.wikitext import convert_wikitext

CASES = {
    "100<sup>2</sup> = 10000": "100^2 = 10000",
    "6.022 × 10<sup>23</sup>, 10<sup>−6</sup>, 10<sup>-3</sup>": "6.022 × 10^23, 10^−6, 10^-3",
    "H<sub>2</sub>O, C<sub>6</sub>H<sub>12</sub>O<sub>6</sub>": "H_2O, C_6H_12O_6",
    "CO<sub>3</sub><sup>2−</sup>, Na<sup>+</sup>, <sup>14</sup>C": "CO_3^2−, Na^+, ^14C",
    "2011<sub>15 years ago</sub> it was": "2011 (15 years ago) it was",
    "the 4<sup>th</sup>, 21<sup> st</sup>, i<sup>th</sup> one": "the 4th, 21st, ith one",
    "XIX<sup>e</sup> siècle, 1<sup>er</sup>, M<sup>me</sup> X": "XIXe siècle, 1er, Mme X",
    "n<sup>o</sup> 5, 2<sup>o</sup>, 1.<sup>a</sup>": "nº 5, 2º, 1.ª",
    "2<sup>n</sup>, x<sup>e</sup>, e<sup>x+1</sup>, f<sup>(n)</sup>, x<sub>i,j</sub>": "2^n, x^e, e^(x+1), f^(n), x_(i,j)",
    "2<sup>1/2</sup>, x<sup>y<sup>2</sup></sup>, a<sub>n<sub>k</sub></sub>": "2^(1/2), x^(y^2), a_(n_k)",
    "x<sup>2</sup>y<sup>3</sup>, 10<sup>2</sup>5, x<sub>n</sub>y": "x^2y^3, 10^(2)5, x_(n)y",
    "Mark<sup>TM</sup>, Mark<sup>®</sup>, C<sup>*</sup>-algebra, 5<sup>′</sup>": "Mark™, Mark®, C*-algebra, 5′",
    "3<sup>1</sup>⁄<sub>2</sub>, <sup>3</sup>/<sub>4</sub>, m<sup>2</sup>/s": "3 1/2, 3/4, m^2/s",
    "word<sup>[1]</sup><sup>[citation needed]</sup>, end<sup>[2],[3]</sup>.": "word, end.",
    'word<sup class="reference">2</sup>, <sup></sup>end<sup> </sup>.': "word, end.",
    "<sub>A paragraph in small print.</sub>": "A paragraph in small print.",
    "10<SUP class=x>5</SUP>, 10<sup\nid=y>6</sup>": "10^5, 10^6",
}


@pytest.mark.parametrize("source", CASES)
def test_scripts_read_the_same_in_web_pages_and_in_wikitext(source: str) -> None:
    filler = " The keeper climbed the steps and lit the lamp of the harbor." * 3
    assert read_html(f"<body><p>{source}{filler}</p></body>".encode()).text.strip() == CASES[source] + filler
    assert convert_wikitext(source + filler) == CASES[source] + filler


def test_links_to_footnotes_vanish() -> None:
    page = (
        b"a<sup><a href=#n1>1</a></sup> b<a class=x href='p.html#n2'><sup>2</sup></a>, c<a href='/3'><sup>3</sup></a>"
    )
    assert read_html(b"<title>x<sup>2</sup></title><p>" + page).text.strip() == "a b, c^3"
    assert "x" in read_html(b"<title>x<sup>2</sup></title><p>" + page).title


@pytest.mark.parametrize("source", ["a<sup>b", "a</sup>b", "a<sup><sub>b</sup>", "<sup>" * 9 + "b" + "</sup>" * 9])
def test_unpaired_and_deep_tags_leave_no_control_characters(source: str) -> None:
    assert "b" in read_html(f"<p>{source}".encode()).text
    assert not MARKS.search(read_html(f"<p>{source}".encode()).text)


@given(st.text(st.sampled_from([SUP, SUB, END, *"ab 12+/[]"]), max_size=40))
def test_all_control_characters_are_replaced(text: str) -> None:
    assert not MARKS.search(render_scripts(text))


@given(st.text(st.characters(exclude_characters="\4\5\6\7"), max_size=40))
def test_other_text_is_unchanged(text: str) -> None:
    assert render_scripts(text) == text


@pytest.mark.parametrize(
    "page",
    [
        *(b"<sup>" * 50_000, b"<sup a=" * 40_000, b"<sup>" * 30_000 + b"</sup>" * 30_000, b"<sup><a href=x" * 20_000),
        *((b"<a href=" + b"x" * 280 + b"<sup>") * 1_000, b"<sup>aa " + b"1 " * 100_000 + b"</sup>"),
    ],
)
def test_hostile_pages_take_linear_time(page: bytes) -> None:
    started = time.process_time()
    render_scripts(mark_scripts(page).decode())
    assert time.process_time() - started < 2
