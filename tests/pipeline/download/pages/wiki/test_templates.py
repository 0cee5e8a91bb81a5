"""Test the text of common templates, in the wikis of several languages."""

from __future__ import annotations

import time

import pytest

from pipeline.download.pages.wiki.wikitext import convert_wikitext

ENGLISH = {
    "{{convert|30|m|ft}} high, {{cvt|5|ft|3|in|cm|0}} tall": "30 m high, 5 ft 3 in tall",
    "{{convert|30|to|40|km2|sqmi}}, {{convert|30|-|40|C|F}}, {{convert|5.5|x|3|m|abbr=on}}": "30 to 40 km^2, 30–40 °C, 5.5 × 3 m",
    "{{val|6.022|e=23|u=mol}}, {{val|1.23|0.05|ul=m}}, {{val|12000}}": "6.022×10^23 mol, 1.23±0.05 m, 12000",
    "born {{birth date|1820|1|2}}, {{Birth date and age|1950|05|12|df=yes}}": "born January 2, 1820, 12 May 1950",
    "died {{death date and age|2000|2|1|1920|3|4|df=y}}, {{death year and age|1900|1820}}": "died 1 February 2000, 1900",
    "{{Start date|2001|02}}, {{end_date|2001}}, {{birth-date|2 May 1820}}": "February 2001, 2001, 2 May 1820",
    "{{US$|5 million}}, {{USD|5}}, {{GBP|1,200}}, {{£|3}}, {{EUR|7|link=yes}}": "US$5 million, US$5, £1,200, £3, €7",
    "{{INR|500}}, {{CHF|5}}, {{¥|5}}": "₹500, CHF 5, ¥5",
    "{{INRConvert|5|c}}, {{currency|9|GBP}}, {{JPY|100}}, {{CHF|5}}": "₹5 crore, £9, ¥100, CHF 5",
    "{{nowrap|John Smith}}, {{nobr|[[a|b]] c}}, {{small|''d''}}": "John Smith, b c, d",
    "{{lang|fr|Saint-Malo}}, {{lang-fr|Rouen}}, {{langx|de|Köln}}, {{transl|ru|Moskva}}": "Saint-Malo, Rouen, Köln, Moskva",
    "{{transl|ru|ISO|Moskva}}, {{nihongo|Tokyo|東京|Tōkyō}}": "Moskva, Tokyo (東京, Tōkyō)",
    "{{zh|s=汉语|t=漢語|p=Hànyǔ}}": "汉语, 漢語, Hànyǔ",
    "{{abbr|MP|Member of Parliament}}, {{tooltip|a|b}}, {{sic|teh}}": "MP, a, teh",
    "{{frac|1|2}}, {{frac|3|1|2}}, {{sfrac|3}}": "1/2, 3 1/2, 1/3",
    "{{circa|1850}}, {{c.|1850|1860}}, {{floruit|1900}}, {{reign|1066|1087}}": "c. 1850, c. 1850–1860, fl. 1900, r. 1066–1087",
    "{{ill|Some Name|de}}, {{ill|A|de|B|lt=C}}, {{interlanguage link|D|fr|E}}": "Some Name, C, D",
    "{{formatnum:12000}}, {{formatnum:5|R}}, {{uc:abc}}": "12000, 5, ABC",
    "{{as of|2020|5}}, {{As of|2021|lc=y}}, {{as of|2020|alt=in 2020}}": "As of May 2020, as of 2021, in 2020",
    "a{{nbsp}}b{{snd}}c{{mdash}}d {{=}} e, {{'}}s": "a b – c—d = e, 's",
    "10{{sup|3}}, x{{sub|1}}, 5{{e|6}}, {{10^|9}}, {{chem|H|2|O}}, {{chem2|C6H12O6}}": "10^3, x_1, 5×10^6, 10^9, H_2O, C_6H_12O_6",
    "{{USS|Enterprise|CV-6}}, {{HMS|Victory|1765|6}}, {{ship|SS|Nomadic}}, {{sclass|Nimitz|carrier}}": (
        "USS Enterprise (CV-6), HMS Victory, SS Nomadic, Nimitz-class carrier"
    ),
    "{{convert|{{formatnum:30}}|{{nowrap|m}}}}, {{nowrap|1={{frac|1|2}}}}, {{lang|2=x|1=de}}": "30 m, 1/2, x",
    "a{{cite web|url=x|title={{nowrap|y}}}}, b{{citation needed|date=May 2020}}{{efn|note}}.": "a, b.",
    "{{birth date|year=1950|month=5|day=6}}, {{val|5|+1|-2|u=m/s2}}, {{sup|''n''}}": "May 6, 1950, 5 (+1/-2) m/s^2, ^n",
    "built {{circa}}1850, {{hlist|a|b|c}}, {{color|red|d}}, {{key press|Ctrl|C}}": "built c. 1850, a, b, c, d, Ctrl+C",
    "{{convert}}, {{lang|fr}}, {{birth date}}, {{frac}}, {{ill}}": "",
    "{{ Convert <!-- x -->|5| km }} and {{Convert\n|6\n|mi\n}}": "5 km and 6 mi",
}
OTHERS = {
    "fr": (
        "{{s|xix|e}}, {{S-|XX|e}}, {{unité|30|km|2}}, {{nombre|12000|habitants}}, {{1er}} {{date-|2|mai|1820}}, m{{exp|2}}, "
        "{{citation|mot}}, {{lang|en|word}}, {{lien|Nom|lang=en|trad=Name|texte=Le nom}}, {{IIe}}, "
        "{{nobr|a b}}, m{{2}}, {{Mlle|X}}, {{n°|5}}",
        "XIXe siècle, XXe, 30 km^2, 12000 habitants, 1er 2 mai 1820, m^2, « mot », word, Name, IIe, a b, m^2, Mlle X, nº 5",
    ),
    "de": ("{{enS|word}}, {{Lang|fr|mot}}, {{Bruch|1|2}}, {{Höhe|123|m}}", "word, mot, 1/2, 123 m"),
    "es": (
        "{{unidad|30|km}}, {{siglo|XIX||s}}, {{fecha|2|5|1820}}, {{nobr|x}}, {{lang-en|y}}",
        "30 km, siglo XIX, 1820-05-02, x, y",
    ),
    "it": ("{{M|30|u=m}}, {{formatnum:12000}}, {{lang|en|x}}", "30 m, 12000, x"),
    "pt": ("{{fmtn|12000|km}}, {{séc|XIX}}, {{dni|2|5|1820}}", "12000 km, século XIX, 1820-05-02"),
    "pl": ("{{w języku|en|x}}, {{lang|de|y}}, {{liczba|12000}}", "x, y, 12000"),
    "ru": (
        "{{lang-en|word}}, {{число|12000}}, {{s|a b}}, {{дата рождения|2|5|1820}}, {{нп3|Имя|Подпись|en|Name}}, {{num|5|км}}, "
        "{{нп5|Имя|Подпись|en|Name}}",
        "word, 12000, a b, 1820-05-02, Имя, 5 км, Подпись",
    ),
    "ja": (
        "{{lang|en|word}}、{{読み仮名|漢字|かな}}、{{仮リンク|名|en|Name}}、{{生年月日と年齢|1950|1|2}}",
        "word、漢字（かな）、名、1950年1月2日",
    ),
    "zh": (
        "{{lang|en|word}}、{{link-en|名|Name}}、{{tsl|en|Name|名}}、{{birth date|1950|1|2}}",
        "word、名、名、1950年1月2日",
    ),
    "ko": ("{{llang|en|word}}, {{임시링크|이름|en|Name}}, {{출생일|1950|1|2}}", "word, 이름, 1950년 1월 2일"),
    "hi": ("{{lang-en|word}}, {{convert|5|km}}, {{birth date|1950|1|2}}", "word, 5 km, 1950-01-02"),
}


@pytest.mark.parametrize("source", ENGLISH)
def test_templates_of_the_english_wiki(source: str) -> None:
    assert convert_wikitext(f"x {source}", language="en") == f"x {ENGLISH[source]}".strip() or not ENGLISH[source]
    assert "{" not in convert_wikitext(f"x {source}")


@pytest.mark.parametrize("language", OTHERS)
def test_templates_of_other_wikis(language: str) -> None:
    source, expected = OTHERS[language]
    assert convert_wikitext(source, language=language) == expected


def test_a_quotation_is_a_paragraph() -> None:
    assert convert_wikitext("Before.\n{{quote|The words.|A person}}\nAfter.") == "Before.\n\nThe words.\n\nAfter."


def test_a_template_in_a_hidden_one_is_hidden() -> None:
    assert convert_wikitext("{{Infobox\n| born = {{birth date|1820|1|2}}\n| {{nowrap|x}}\n}}y") == "y"


@pytest.mark.parametrize(
    "argument", ["1" * 100_000 + "x", "|" * 20_000, "|1000000000=x", "1 " * 50_000 + "y", "|5|" + "to|5|" * 20_000]
)
@pytest.mark.parametrize("name", ["convert", "val", "birth date", "lang", "frac"])
def test_long_arguments_take_linear_time(name: str, argument: str) -> None:
    started = time.process_time()
    convert_wikitext(f"{{{{{name}|5|{argument}}}}}")
    assert time.process_time() - started < 2
