"""Test choosing one variant of language conversion marks."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.wiki.language_variants import choose_variants
from pipeline.download.pages.wiki.wikitext import convert_wikitext

HANS, HANT = "这个国家的电机来了，", "這個國家的電機來了，"


@pytest.mark.parametrize(
    ("mark", "hans", "hant"),
    [
        ("-{zh-cn:软件;zh-tw:軟體;}-", "软件", "軟體"),
        ("-{zh-hans:软件; zh-hant:軟體}-", "软件", "軟體"),
        ("-{ zh-hk : 軟件 ;\n zh-sg : 软件 }-", "软件", "軟件"),
        ("-{zh:程序;zh-hans:程序;zh-hant:程式}-", "程序", "程式"),
        ("-{zh-tw:只有}-", "只有", "只有"),
        ("-{A|zh-cn:网络;zh-tw:網路}-", "网络", "網路"),
        ("-{只有}-", "只有", "只有"),
        ("-{R|zh-cn:a}-", "zh-cn:a", "zh-cn:a"),
        ("-{zh;zh-hant|限}-", "限", "限"),
        ("-{H|zh-cn:软件;zh-tw:軟體}-", "", ""),
        ("-{T|zh-cn:软件;zh-tw:軟體}-", "", ""),
        ("-{-|zh-cn:软件;zh-tw:軟體}-", "", ""),
        ("-{N|zh-cn}-", "", ""),
        ("-{}-", "", ""),
        ("-{[[A|B]]}-", "[[A|B]]", "[[A|B]]"),
        ("-{zh-cn:[[A|甲]];zh-tw:[[A|乙]]}-", "[[A|甲]]", "[[A|乙]]"),
        ("-{zh-cn:a&nbsp;;zh-tw:b}-", "a&nbsp;", "b"),
        ("-{zh-cn:a -{zh-cn:b;zh-tw:c}- d;zh-tw:e -{f}-}-", "a b d", "e f"),
        ("-{zh-cn:{{lang|en|a}}-b;zh-tw:c}-", "{{lang|en|a}}-b", "c"),
        ("-{{{lang|en|X}}}-", "{{lang|en|X}}", "{{lang|en|X}}"),
        ("<math>a^{-{b}-c}</math>", "<math>a^{-{b}-c}</math>", "<math>a^{-{b}-c}</math>"),
        (
            "<nowiki>-{a}-</nowiki><!-- -{b}- -->",
            "<nowiki>-{a}-</nowiki><!-- -{b}- -->",
            "<nowiki>-{a}-</nowiki><!-- -{b}- -->",
        ),
        ("-{a", "-{a", "-{a"),
        ("a}- {{b}}-c", "a}- {{b}}-c", "a}- {{b}}-c"),
    ],
)
def test_one_variant_is_chosen_by_the_script_of_the_page(mark: str, hans: str, hant: str) -> None:
    assert choose_variants(HANS + mark, "zh") == HANS + hans
    assert choose_variants(HANT + mark, "zh") == HANT + hant


def test_other_languages() -> None:
    assert choose_variants("Ово је -{Windows}- и -{sr-ec:реч; sr-el:reč}-", "sr") == "Ово је Windows и реч"
    assert choose_variants("Ovo je -{Windows}- i -{sr-ec:реч; sr-el:reč}-", "sr") == "Ovo je Windows i reč"
    assert choose_variants("Қазақша -{kk-cyrl:сөз;kk-latn:söz}-", "kk") == "Қазақша сөз"
    assert choose_variants("x^{-{b}-c} -{d}-", "en") == "x^{-{b}-c} -{d}-"


def test_the_language_is_that_of_the_wiki() -> None:
    source = "'''-{zh-hans:计算机; zh-hant:電腦}-'''是這個國家的。"
    assert convert_wikitext(source, language="zh") == "電腦是這個國家的。"
    assert convert_wikitext(source) == "-{zh-hans:计算机; zh-hant:電腦}-是這個國家的。"


@given(
    st.lists(
        st.sampled_from(["-{", "}-", "zh-cn:", "zh-tw:", ";", "|", "{{", "}}", "H", "字", " ", "<pre>", "</pre>"])
    ).map("".join)
)
def test_any_text_is_read(source: str) -> None:
    assert len(choose_variants(source, "zh")) <= len(source)


@pytest.mark.parametrize(
    "source",
    [
        *(
            "-{" * 100_000,
            "-{a" * 50_000 + "}-" * 50_000,
            "-{zh-cn:" + "x;" * 100_000 + "}-",
            "-{" + "a=>" * 100_000 + "}-",
        ),
        *(
            "-{<math>" * 50_000,
            "<!--" * 50_000 + "-{",
            "-{" + " " * 200_000 + ";" + "}-",
            "-{" + ";zh-cn:" * 50_000 + "}-",
        ),
    ],
)
def test_hostile_pages_take_linear_time(source: str) -> None:
    started = time.process_time()
    choose_variants(source, "zh")
    assert time.process_time() - started < 2
