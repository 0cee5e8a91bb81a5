"""Test converting wikitext: each kind of markup, the fold against mwparserfromhell's tree, pages built to stall the parser."""

from __future__ import annotations

import html
from typing import Any

import mwparserfromhell
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mwparserfromhell import nodes

from pipeline.download.pages.superscripts import mark_script, render_scripts
from pipeline.download.pages.wiki import wikitext
from pipeline.download.pages.wiki.namespaces import cut_categories
from pipeline.download.pages.wiki.templates import write_template
from pipeline.download.pages.wiki.wikitext import WikitextError, convert_wikitext, lay_out

CASES = {
    "a [[link]] and [[a target|another]], [[Place (town)|]]": "a link and another, Place",
    "[[File:A.jpg|thumb|a caption with [[a link]]]]x [[Category:Things]]": "x",
    "[[:Category:Things]] is shown, [[de:Haus]] is not, [[wikt:house]] is": "Category:Things is shown, is not, wikt:house is",
    "'''bold''' ''italic'' '''''both''''' l''''amour''' it's": "bold italic both l'amour it's",
    "L'''amour'' est": "L'amour est",
    "x<sup>''n''</sup> y<sub>'''max'''</sub> word<sup>[[#note|1]]</sup>": "x^n y_max word",
    "a<ref\nname=x>b</ref\n>c": "ac",
    "a<ref name=x>{{cite|b}}</ref>b<ref name=x /> <!-- c -->d": "ab d",
    "{{Infobox\n| a = {{b}}\n}}\nThe text ({{pronounced|x}}; y) of ({{z}}) it": "The text (y) of it",
    "{| class=x\n|+ caption\n! head\n|-\n| cell || [[cell]]\n|}\nafter": "after",
    "== Empty ==\n{{reflist}}\n== Full ==\ntext\n=== Below ===\nmore\n== Links ==\n": "Full\n\ntext\n\nBelow\n\nmore",
    "* one\n** two\n# three\n* {{cite}}\n: indented\n; term": "- one\n  - two\n- three\nindented\nterm",
    "a &amp; b &#65;&#x42; &nbsp;c": "a & b AB c",
    "<math>x''  + y</math> <nowiki>''raw'' [[x]]</nowiki>": "$x'' + y$ ''raw'' [[x]]",
    "<pre>\n  if a:\n    b\n</pre>": "  if a:\n    b",
    "one<br>two<br />three<hr>four": "one\ntwo\nthree\nfour",
    "[http://a.b label] [http://a.b] http://a.b": "label http://a.b",
    "<gallery>\nFile:x.jpg|y\n</gallery>__NOTOC__<div class=x>in</div>": "in",
    "{{{1|default}}} {{{2}}}": "default 2",
    "<li>a</li><li>b": "- a\n- b",
    "a\n\n\n\nb  c \nd": "a\n\nb c\nd",
    "": "",
}


@pytest.mark.parametrize("source", CASES)
def test_markup_is_converted(source: str) -> None:
    assert convert_wikitext(source) == CASES[source]


def test_unpaired_quotes_do_not_hide_a_table() -> None:
    """The tokenizer pairs quotes across cells: a missing one would leave the whole table as text."""
    assert convert_wikitext("{|\n| '''{{bar|1}}\n|-\n| align=right | '''x\n|}\nafter") == "after"


def test_links_into_the_wiki_s_own_namespaces_are_hidden() -> None:
    assert convert_wikitext("[[Datei:A.jpg|mini|x]][[Kategorie:B]]y", frozenset(("datei", "kategorie"))) == "y"


@given(st.lists(st.lists(st.from_regex(r"[a-zà-ž0-9]{1,9}[.?]?", fullmatch=True), min_size=1, max_size=6), max_size=6))
def test_plain_text_is_unchanged(lines: list[list[str]]) -> None:
    text = "\n\n".join(" ".join(line) for line in lines)
    assert convert_wikitext(text) == text


PIECES = [
    *("a", " b ", "\n", "\n\n", "[[", "]]", "|", "{{", "}}", "{|\n", "\n|}", "\n|-\n", "\n| ", "==", "\n== ", " ==\n"),
    *(
        "''",
        "'''",
        "<ref>",
        "</ref>",
        "<ref name=x />",
        "<b>",
        "</b>",
        "<br>",
        "<li>",
        "<math>",
        "</math>",
        "<sup>",
        "</sup>",
        "<!--",
        "-->",
    ),
    *(
        "\n* ",
        "\n# ",
        "\n: ",
        "\n; ",
        "&amp;",
        "&#65;",
        "&",
        "[http://x.y ",
        "http://x.y",
        "]",
        "{{{",
        "}}}",
        "File:",
        ":",
    ),
    *("{{lang|", "{{convert|5|", "{{nowrap|", "{{birth date|1|", "{{nbsp}}", "{{formatnum:5}}", "{{sup|", "-{", "}-"),
    *("<div style='a'>", "</div>", "<nowiki>", "</nowiki>", "<pre>", "</pre>", "(", ")", ",", "__NOTOC__", "----", "="),
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_the_fold_equals_the_parser_s_tree(source: str) -> None:
    """Compare the fold over flat tokens with the same rules applied to the parser's own tree."""
    prepared = wikitext.BROKEN_TAG.sub(r"\1 ", cut_categories(source))
    parsed: Any = mwparserfromhell.parse(prepared, skip_style_tags=True)
    assert convert_wikitext(source) == lay_out(render_scripts(render_tree(parsed)))


def render_tree(code: Any) -> str:
    return "".join(render_node(node) for node in code.nodes)


def render_node(node: Any) -> str:
    match node:
        case nodes.Text():
            return str(node.value)
        case nodes.Argument():
            return render_tree(node.name if node.default is None else node.default)
        case nodes.Wikilink():
            title = render_tree(node.title)
            if node.text is None:
                return wikitext._render_link("", title, frozenset())  # pyright: ignore[reportPrivateUsage]
            inside = render_tree(node.text)
            return wikitext._render_link(title or " ", inside, frozenset())  # pyright: ignore[reportPrivateUsage]
        case nodes.ExternalLink():
            return render_tree(node.title) if node.title is not None else "" if node.brackets else render_tree(node.url)
        case nodes.HTMLEntity():
            return html.unescape(str(node))
        case nodes.Heading():
            return f"\n{wikitext.HEADING}{node.level}{' '.join(render_tree(node.title).split())}\n"
        case nodes.Tag():
            return render_tag(node)
        case nodes.Template():
            return render_template(node)
        case _:  # comments
            return ""


def render_template(node: Any) -> str:
    if any(not isinstance(part, nodes.Text | nodes.Comment) for part in node.name.nodes):
        return ""
    pairs = [(render_tree(each.name) if each.showkey else "", render_tree(each.value)) for each in node.params]
    return write_template("".join(str(part.value) for part in node.name.nodes if isinstance(part, nodes.Text)), pairs)


def render_tag(node: Any) -> str:
    name, markup = str(node.tag).strip().lower(), node.wiki_markup or ""
    if node.self_closing:
        if markup in ("*", "#"):
            return wikitext.ITEM
        if name == "li" and not markup:
            return f"\n{wikitext.ITEM}"
        return "\n" if markup.startswith("-") or name in wikitext.BREAKS else ""
    inside = "" if name in wikitext.HIDDEN_TAGS or markup == "{|" else render_tree(node.contents)
    if name in wikitext.LITERAL_TAGS:
        inside = inside.replace("''", f"'{wikitext.NOTHING}'")
    if name in wikitext.TEX_TAGS:
        return f"${' '.join(inside.split())}$" if inside.strip() else ""
    if name in wikitext.CODE_TAGS:
        return "".join(f"\n{wikitext.VERBATIM}{line}" for line in inside.strip("\n").split("\n")) + "\n"
    if name == "li":
        return f"\n{wikitext.ITEM}{inside}"
    if name in wikitext.SCRIPT_TAGS:
        return mark_script(wikitext.SCRIPT_TAGS[name], inside)
    return f"\n{inside}\n" if name in wikitext.BLOCK_TAGS else inside


@pytest.mark.parametrize(
    "opened", ["[[a|", "{{a|", "<ref>", "[http://a ", '<a b="', "<!--", "{{[[<ref ", "{|\n!a||b\n", "{{{a|"]
)
def test_a_page_built_to_stall_the_parser_is_refused(opened: str) -> None:
    """The parser scans to the end of the page for each opening: without the check these take minutes to hours."""
    with pytest.raises(WikitextError):
        convert_wikitext(opened * (400_000 // len(opened)))


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_the_output_contains_no_control_characters(source: str) -> None:
    assert not set("\0\1\2\3") & set(convert_wikitext(source))
