"""Test that links to files and into categories are recognized in wikis of any language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.wiki.namespaces import cut_categories, is_hidden_link
from pipeline.download.pages.wiki.wikitext import convert_wikitext


@pytest.mark.parametrize(
    "link",
    [
        *(
            "[[Ficheiro:A.jpg|miniatura|direita|Uma vista]]",
            "[[Immagine:A b.PNG|min|destra|Una vista]]",
            "[[Datei:A.svg|mini|x]]",
        ),
        *(
            "[[画像:Harbor|thumb|200px|港]]",
            "[[תמונה:A.jpg|ממוזער|נמל]]",
            "[[تصویر:A.jpg|بندانگشتی|x]]",
            "[[चित्र:A.jpg|अंगूठाकार|x]]",
        ),
        *(
            "[[Unknown_alias:A.webm|opt|x]]",
            "[[Unknown:A|one|two]]",
            "[[ FILE : A.jpg ]]",
            "[[파일:A.jpg|섬네일|[[항구]]의 모습]]",
        ),
        *("[[Kategorie:A]]", "[[Thể_loại:A]]", "[[Категория:A|Б]]", "[[CATEGORY:A]]", "[[หมวดหมู่:A]]", "[[رده:A]]"),
    ],
)
def test_links_without_text_are_hidden(link: str) -> None:
    assert convert_wikitext(f"Before {link}after.\n\nMore text.") == "Before after.\n\nMore text."


@pytest.mark.parametrize(
    ("link", "text"),
    [
        ("[[Star Trek: The Motion Picture]]", "Star Trek: The Motion Picture"),
        ("[[:Category:Ports]]", "Category:Ports"),
        ("[[:File:A.jpg]]", "File:A.jpg"),
        ("[[A: B|a label]]", "a label"),
        ("[[Media:A.ogg|listen]]", "listen"),
        ("[[Example.jpg]]", "Example.jpg"),
        ("[[2001: A Space Odyssey|2001]]", "2001"),
    ],
)
def test_other_links_are_shown(link: str, text: str) -> None:
    assert convert_wikitext(f"See {link} there.\nEnd.") == f"See {text} there.\nEnd."


def test_categories_under_an_unknown_name_are_cut_at_the_end() -> None:
    page = "Text with [[Foo: Bar]].\n* [[Foo: Baz]]\n\n"
    end = "{{DEFAULTSORT:X}}\n[[Xyz:Ports]] [[Xyz:Towers|T]]\n\n[[Xyz:More]]<!-- c -->\n"
    assert convert_wikitext(page + end) == "Text with Foo: Bar.\n- Foo: Baz"
    assert convert_wikitext("[[Foo: Bar]]") == "Foo: Bar"  # all that the page has


def test_the_names_of_the_wiki_count() -> None:
    assert is_hidden_link("Bestanduo:A", None, frozenset(("bestanduo",)))
    assert not is_hidden_link("Bestanduo:A", None, frozenset())


@given(
    st.lists(st.sampled_from(["[[", "]]", ":", "a", "\n", "|", " ", "{{", "}}", "<!--", "-->"]), max_size=60).map(
        "".join
    )
)
def test_nothing_but_links_is_cut(source: str) -> None:
    kept = cut_categories(source)
    assert source.count("a") - kept.count("a") <= source.count("a")
    assert kept == source or "[[" in source
