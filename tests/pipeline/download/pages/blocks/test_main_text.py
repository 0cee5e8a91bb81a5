"""Test which blocks of small pages stay: each kind of boilerplate goes, headings, lists, tables and code of the article stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.web_page import PageError, read_html

PARAGRAPHS = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all, because it has slept since noon.",
    "Every spring the river rises over its banks, floods the meadows, and leaves mud on which the grass thrives.",
    "The mill was built in 1782; its wheel, which is six meters wide, still turns when enough water comes down.",
    "In the village they say that the last miller hid a bag of coins under the third step, but nobody has found it.",
    "Whoever walks along the valley in the evening hears the frogs, the wheel, and now and then a train far away.",
)
PROSE = "".join(f"<p>{text}</p>" for text in PARAGRAPHS)
HEADER = '<header class="site-header"><a href="/">Daily Meadow</a><form action="/s"><input name=q></form></header>'
MENU = "".join(
    f'<li class="menu-item"><a href="/{name}">{name}</a></li>' for name in ("News", "Sport", "Culture", "Travel")
)
FOOTER = '<footer><p>© 2026 Daily Meadow. All rights reserved.</p><a href="/imprint">Imprint</a></footer>'


def make_page(article: str, before: str = "", after: str = "") -> bytes:
    """Return a page around an article of five paragraphs."""
    return (
        f"<!DOCTYPE html><html><head><title>The mill | Daily Meadow</title></head><body>{HEADER}<nav><ul>{MENU}</ul></nav>"
        f'{before}<main><article class="post"><h1>The mill in the valley</h1>{article}</article>{after}</main>'
        f"{FOOTER}</body></html>"
    ).encode()


BOILERPLATE = {  # before the article, after it, and a text that must go
    "navigation": ("", f"<div class=nav-secondary><ul>{MENU}</ul></div>", "Culture"),
    "breadcrumb": (
        '<ol class="breadcrumb"><li><a href="/">Start</a></li><li><a href="/n">Region</a></li></ol>',
        "",
        "Region",
    ),
    "related links": (
        "",
        '<section class="related"><h3>More on this</h3><ul><li><a href="/1">A bridge for the valley</a></li>'
        '<li><a href="/2">Floods in the north</a></li><li><a href="/3">Who owns the meadow?</a></li></ul></section>',
        "Floods in the north",
    ),
    "comments": (
        "",
        '<section id="comments" class="comments-area"><h3>2 comments</h3><ol class="comment-list">'
        '<li class="comment"><div class="comment-author">Ann says:</div><div class="comment-body"><p>Nice photos!</p></div>'
        '<a href="#r">Reply</a></li><li class="comment"><div class="comment-author">Bob says:</div>'
        '<div class="comment-body"><p>I was there too.</p></div><a href="#r">Reply</a></li></ol></section>',
        "Nice photos",
    ),
    "cookie notice": (
        '<div id="cookie-banner" class="cookie-consent"><p>We use cookies to improve your experience.</p>'
        "<button>Accept</button></div>",
        "",
        "We use cookies",
    ),
    "share bar": (
        "",
        '<div class="share-buttons"><span>Share this:</span><a href="https://f.example">Facebook</a>'
        '<a href="https://t.example">Twitter</a></div>',
        "Share this",
    ),
    "sidebar": (
        "",
        '<aside class="sidebar"><div class="widget"><h4>Popular</h4><ul><li><a href="/9">Ten walks for the weekend</a>'
        "</li></ul></div></aside>",
        "Ten walks",
    ),
    "newsletter": (
        "",
        '<div class="newsletter-signup"><h4>Newsletter</h4><p>Sign up for our newsletter.</p>'
        "<form><input type=email><button>Subscribe</button></form></div>",
        "Sign up",
    ),
}


@pytest.mark.parametrize("kind", BOILERPLATE)
def test_boilerplate_of_each_kind_is_dropped_and_the_article_kept(kind: str) -> None:
    before, after, text = BOILERPLATE[kind]
    main = read_html(make_page(PROSE, before, after)).text
    assert text not in main
    assert "All rights reserved" not in main
    assert "Sport" not in main
    assert all(text in main for text in PARAGRAPHS)


def test_structure_alone_tells_boilerplate_without_words_in_classes() -> None:
    """Russian, no class names, no elements of HTML 5: only links and lengths tell."""
    words = ("Мельница", "Луг", "Весна", "Дорога", "Сад", "Река")
    links = "".join(f'<tr><td><a href="/{n}">{word}</a></td></tr>' for n, word in enumerate(words))
    prose = "".join(
        f"<p>{word} стоит у самой воды, и каждую весну, когда тает снег, сюда приходят люди из деревни, чтобы посмотреть, "
        f"как высоко поднялась вода и не унесла ли она мост. {number}</p>"
        for number in range(4)
        for word in words
    )
    page = (
        f"<html><body><table>{links}</table><div>{prose}</div><div><a href=/a>О нас</a> <a href=/b>Контакты</a></div>"
    )
    main = read_html(page.encode()).text
    assert main.count("стоит у самой воды") == 4 * len(words)
    assert "Луг\n" not in main
    assert "Контакты" not in main


def test_headings_lists_tables_and_code_are_laid_out() -> None:
    code = "<pre><code>def turn(wheel):\n    return wheel + 1</code></pre>"
    items = "<ul><li>a wheel of oak, which was renewed in 1920</li><li>two stones from the quarry</li></ul>"
    items += "<ol><li>Open the weir.</li></ol>"
    table = "<table><tr><th>Year</th><th>Bags of flour</th></tr><tr><td>1782</td><td>300</td></tr></table>"
    main = read_html(make_page(f"{PROSE}<h2>The machine</h2>{PROSE}{items}{PROSE}{table}{PROSE}{code}{PROSE}")).text
    lines = [" ".join(line.split()) for line in main.splitlines()]
    assert {
        "The mill in the valley",
        "The machine",
        "• two stones from the quarry",
        "1. Open the weir.",
        "1782 300",
    } <= {*lines}
    assert "def turn(wheel):\n    return wheel + 1" in main


def test_scripts_pictures_and_fields_inside_a_paragraph_are_cut() -> None:
    inside = "<script>var x = 'hidden'</script><svg><title>icon</title><path d=M0/></svg><select><option>one</select>"
    main = read_html(
        make_page(PROSE + f"<p>Before the mill {inside}there is a pond, in which carp live, and a bench.</p>")
    ).text
    assert "Before the mill there is a pond" in " ".join(main.split())
    assert not any(word in main for word in ("hidden", "icon", "one "))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_short_page_is_kept(n: int) -> None:
    page = "<html><body>" + "".join(f"<p>{text}</p>" for text in PARAGRAPHS[:n]) + "</body></html>"
    assert read_html(page.encode()).text.split() == " ".join(PARAGRAPHS[:n]).split()


def test_a_page_without_visible_text_gives_the_text_that_it_declares() -> None:
    declared = (
        '{"@type": "Article", "headline": "x", "articleBody": "'
        + "\\n".join(PARAGRAPHS).replace("fox", "f\\u00f6x")
        + '"}'
    )
    page = f'<html><head><script type="application/ld+json">{declared}</script></head><body><div id=app></div></body></html>'
    assert read_html(page.encode()).text.split() == " ".join(PARAGRAPHS).replace("fox", "föx").split()
    assert (
        read_html(make_page(PROSE).replace(b"</head>", f"<script>{declared}</script></head>".encode())).text.count(
            "föx"
        )
        == 0
    )


@given(
    st.lists(
        st.sampled_from(["<div>", "</div>", "<p>", "<li>", "</ul>", "<td>", "<a href=x>", "</a>", "<svg>", "<title>"])
    )
)
def test_any_markup_is_cut_without_losing_its_only_text(tags: list[str]) -> None:
    page = "".join(tags) + "<div><p>" + PARAGRAPHS[0]
    hidden = {"<svg>", "<title>"} & {*tags}
    assert hidden or PARAGRAPHS[0] in " ".join(read_html(page.encode()).text.split())


def test_a_page_of_deeply_nested_lists_does_not_grow() -> None:
    """Without a limit each item is indented by two characters per level."""
    page = b"<ul><li>" * 400 + b"<li>" + b"The mill still turns, when enough water comes down.<li>" * 2_000
    assert len(read_html(page).text) < 4 * len(page)


def test_many_blocks_in_many_elements_take_linear_time() -> None:
    """Within a second: a walk up to the root for each block would take minutes, a page of tags only would take gigabytes."""
    page = "<div>" * 900 + "".join(f"<p>{number}. {PARAGRAPHS[0]}</p>" for number in range(10_000))
    assert PARAGRAPHS[0] in read_html(page.encode()).text
    with pytest.raises(PageError, match="blocks of text"):
        read_html(b"<p>x" * 300_001)


@pytest.mark.parametrize("depth", [1, 30])
def test_a_book_on_one_page_is_kept_whole(depth: int) -> None:
    paragraphs = [f"{number}. {PARAGRAPHS[number % 5]}" for number in range(3_000)]
    chapters = "".join(f"<h2>Chapter {at}</h2><p>" + "<p>".join(paragraphs[at : at + 50]) for at in range(0, 3_000, 50))
    main = read_html(f"<title>x</title><h1>The valley</h1>{'<div>' * depth}{chapters}".encode()).text
    assert [line for line in main.splitlines() if line[:1].isdigit()] == paragraphs
    assert main.count("Chapter ") == 60
