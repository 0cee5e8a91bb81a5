"""Everybody can use the page: by keyboard, by ear, on a small screen, in the dark, with little motion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.page.page_double import Failure, PageDouble
from tests.service.page.page_driver import PageTab
from tests.service.page.test_answers_in_a_browser import QUOTE, make_citation

pytestmark = pytest.mark.slow
ANSWER = "article[aria-busy]"
CONTROLS = (
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "checkbox",
    "radio",
    "menuitem",
    "image",
    "region",
    "dialog",
    "progressbar",
)
NO_OUTLINE = "getComputedStyle(document.activeElement).outlineStyle === 'none'"
LONG = "a_name_without_any_place_to_break_" * 8
CONTRAST = """(() => {
    const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => color.slice(0, 3).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const color = numbers(getComputedStyle(node).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    let n = 0;
    const low = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let text; (text = walker.nextNode()); ) {
        const node = text.parentElement;
        if (!text.data.trim() || !node.checkVisibility({visibilityProperty: true})) continue;
        if (node.closest('.sr, noscript, :disabled, option')) continue;
        n++;
        const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) low.push([text.data.slice(0, 40), node.className, (a + 0.05) / (b + 0.05)]);
    }
    return n > 8 ? low : ['too few texts'];
})()"""
CHOOSE = """(() => {{
    const list = document.querySelector('#profile');
    list.value = '{}';
    list.dispatchEvent(new Event('change'));
}})()"""
WIDER = """[...document.querySelectorAll('body *')].filter((each) =>
    each.checkVisibility({visibilityProperty: true}) && !each.closest('.sr, .skip')
    && each.getBoundingClientRect().right > innerWidth + 0.5 && !each.parentElement.closest('.scroll, pre, .inside')
).map((each) => each.outerHTML.slice(0, 80))"""


def fill_page(tab: PageTab, double: PageDouble) -> None:
    """Show an answer with everything in it, and one that failed."""
    found = {"query": "x", "notes": ["A note."], "results": [{"title": "a", "line": LONG}]}
    double.ask(
        {"type": "recalled", "number": 1, "text": "I like trees.", "source": "conversation 3"},
        {"type": "tool_call", "number": 1, "name": "search_docs", "arguments": {"query": LONG}},
        {"type": "tool_result", "number": 1, "text": "", "search": found},
        make_citation(),
        f'It says: "{QUOTE}" [numpy.sum: summary].\n\n> quoted **text** and [a link](https://a.example)\n\n',
        f"- {LONG}\n- `{LONG}`\n\n",
        f"```python\n{LONG}\n```\n\n|{'a|' * 12}\n|{'-|' * 12}\n|{'word|' * 12}\n\n# {LONG}\n",
        {"type": "notice", "text": LONG},
    )
    tab.send(f"What is {LONG}?")
    tab.finish()
    double.replies.append(Failure(500, LONG))
    tab.send("again")
    tab.finish(2)
    tab.evaluate("document.querySelector('summary').click()")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_texts_have_contrast(tab: PageTab, double: PageDouble, is_dark: bool) -> None:
    tab.resize(1280, 800, is_dark=is_dark)
    assert tab.evaluate(CONTRAST) == []
    fill_page(tab, double)
    assert tab.evaluate(CONTRAST) == []
    for selector in (".cite", "#help", "[data-down]"):
        tab.evaluate(f"document.querySelector('{selector}').click()")
        tab.wait("document.querySelector('#panel').open")
        assert tab.evaluate(CONTRAST) == [], selector
        tab.press("Escape")
        tab.wait("!document.querySelector('#panel').open")


def test_the_theme_is_chosen_and_kept(tab: PageTab) -> None:
    read = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(read)
    tab.click("#theme")
    assert tab.evaluate("document.querySelector('#theme').ariaLabel") == "Theme: light"
    tab.click("#theme")
    dark = tab.evaluate(read)
    assert dark != light
    tab.reload()
    assert tab.evaluate(read) == dark
    tab.click("#theme")
    assert (tab.evaluate(read), tab.evaluate("document.querySelector('#theme').ariaLabel")) == (
        light,
        "Theme: as the system",
    )


def test_everything_has_a_name_for_screen_readers(tab: PageTab, double: PageDouble) -> None:
    fill_page(tab, double)
    for step in ("0", "document.querySelector('[data-down]').click()"):
        tab.evaluate(step)
        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
        nameless = [
            node for node in nodes if not node["ignored"] and read_role(node) in CONTROLS and not read_name(node)
        ]
        assert nameless == []
    tab.press("Escape")
    names = {(read_role(node), read_name(node)) for node in tab.call("Accessibility.getFullAXTree")["nodes"]}
    expected = {
        ("log", "Conversation"),
        ("textbox", "Message"),
        ("searchbox", "Search conversations"),
        ("combobox", "Profile"),
    }
    expected |= {
        ("article", "You"),
        ("article", "MiniGPT"),
        ("button", "Source 1: numpy.sum › Summary"),
        ("button", "Send"),
    }
    assert expected <= names
    assert tab.evaluate("document.documentElement.lang") == "en"


def read_role(node: dict[str, Any]) -> str:
    return node.get("role", {}).get("value", "")


def read_name(node: dict[str, Any]) -> str:
    return node.get("name", {}).get("value", "")


def test_screen_readers_hear_whole_sentences_once(tab: PageTab, double: PageDouble) -> None:
    tab.evaluate("""window.heard = []; new MutationObserver((all) => all.forEach((each) => each.addedNodes.forEach((node) =>
        heard.push(node.textContent)))).observe(document.querySelector('[aria-live=polite]'), {childList: true}); 0""")
    double.ask(*"One is *1.5* here. Two follows! The end")
    tab.send("go")
    tab.finish()
    assert tab.evaluate("heard.map((each) => each.trim())") == ["One is 1.5 here.", "Two follows!", "The end"]
    assert tab.evaluate("document.querySelector('#log').ariaLive") == "off"  # else each piece would be read


def test_everything_works_by_keyboard_alone(tab: PageTab, double: PageDouble) -> None:
    double.ask(make_citation(), f'It says: "{QUOTE}" [numpy.sum: summary].')
    tab.type("first line")  # the field has the focus
    tab.press("Enter", 8)  # Shift Enter: a new line
    tab.type("second line")
    tab.press("Enter")
    tab.finish()
    assert double.list_prompts() == [["first line\nsecond line"]]
    seen: list[str] = []
    for _ in range(40):
        tab.press("Tab")
        seen.append(
            tab.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.innerText || document.activeElement.id"
            )
        )
        is_bare = "document.activeElement.matches('button, a, summary') && " + NO_OUTLINE
        if tab.evaluate(is_bare):
            raise AssertionError(f"no visible focus: {seen[-1]}")
        if seen[-1].startswith("Source 1"):
            break
    assert {"Skip to the message field", "New conversation", "Search conversations", "Profile", "Conversation"} <= set(
        seen
    )
    tab.press("Enter")
    tab.wait("document.querySelector('#panel').open")
    for _ in range(12):  # the focus stays in the panel
        tab.press("Tab")
        assert tab.evaluate("document.activeElement === document.body || !!document.activeElement.closest('#panel')")
    tab.press("Escape")
    tab.wait("document.activeElement.ariaLabel?.startsWith('Source 1')")
    tab.press("?")
    tab.wait("document.querySelector('#panel-title').innerText === 'Help'")
    assert "search conversations" in tab.text("#panel")
    tab.press("Escape")
    tab.evaluate("document.querySelector('#message').focus()")
    tab.type("a question?")  # no help in a field
    assert not tab.evaluate("document.querySelector('#panel').open")


def test_an_unfinished_word_of_an_input_method_is_not_sent(tab: PageTab, double: PageDouble) -> None:
    tab.call("Input.imeSetComposition", text="にほん", selectionStart=3, selectionEnd=3)
    tab.evaluate("""document.querySelector('#message').dispatchEvent(new KeyboardEvent('keydown',
        {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))""")
    assert double.requests == []
    tab.type("日本")
    tab.press("Enter")
    tab.finish()
    assert double.list_prompts() == [["日本"]]


def test_nothing_is_wider_than_a_small_phone(tab: PageTab, double: PageDouble) -> None:
    tab.resize(320, 568)
    assert tab.evaluate(WIDER) == []
    fill_page(tab, double)
    assert tab.evaluate(WIDER) == []
    assert tab.evaluate("document.documentElement.scrollWidth") == 320
    for selector in (".cite", "#help", "[data-down]"):
        tab.evaluate(f"document.querySelector('{selector}').click()")
        tab.wait("document.querySelector('#panel').open")
        assert tab.evaluate(WIDER) == [], selector
        tab.press("Escape")
        tab.wait("!document.querySelector('#panel').open")
    tab.click("#open-side")
    tab.wait("document.activeElement.id === 'search'")
    assert tab.evaluate(WIDER) == []
    assert tab.evaluate("document.querySelector('#main').inert")
    tab.press("Escape")
    tab.wait("document.activeElement.id === 'open-side'")
    assert not tab.evaluate("document.querySelector('#main').inert")


def test_little_motion_for_those_who_ask_for_it(tab: PageTab, double: PageDouble) -> None:
    double.ask(30.0)
    tab.send("go")
    tab.wait("document.querySelector('.waiting')")
    read = "getComputedStyle(document.querySelector('.waiting'), '::before').animationName"
    assert tab.evaluate(read) == "breathe"
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert tab.evaluate(read) == "none"
    tab.press("Escape")
    tab.finish()


def test_profiles_are_chosen_and_remembered_by_the_conversation(tab: PageTab, double: PageDouble) -> None:
    assert tab.list_texts(".try button") == ["What does numpy.sum do?", "17 * 23"]
    tab.evaluate(CHOOSE.format("minigpt/tutor"))
    assert "I explain what the course says." in tab.text("#log")
    tab.send("go")
    tab.finish()
    tab.click("#new")
    tab.wait("!document.querySelector('article')")
    tab.evaluate(CHOOSE.format("minigpt"))
    tab.click(".try button")
    tab.finish()
    tab.click("#history li:not(.here) a")
    tab.wait("document.querySelector('#profile').value === 'minigpt/tutor'")
    assert [(request["model"], request["messages"][0]["content"]) for request in double.requests] == [
        ("minigpt/tutor", "go"),
        ("minigpt", "What does numpy.sum do?"),
    ]
    assert all(0 < len(request["metadata"]["conversation"]) <= 64 for request in double.requests)


def test_memories_are_listed_and_forgotten(tab: PageTab, double: PageDouble) -> None:
    double.memories = [
        {"number": 3, "text": "My name is Ada.", "source": "turn 1"},
        {"number": 5, "text": "I like axis 0.", "source": "turn 2"},
    ]
    tab.click("#memories")
    tab.wait("document.querySelectorAll('#panel li').length === 2")
    tab.click("[aria-label='Forget: My name is Ada.']")
    tab.wait("document.querySelectorAll('#panel li').length === 1")
    assert [memory["number"] for memory in double.memories] == [5]


def test_a_double_click_asks_once(tab: PageTab, double: PageDouble) -> None:
    tab.evaluate("const first = document.querySelector('.try button'); first.click(); first.click()")
    tab.finish()
    assert double.list_prompts() == [["What does numpy.sum do?"]]


def test_copying_gives_the_text_as_it_was_written_or_says_why_not(tab: PageTab, double: PageDouble) -> None:
    tab.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    double.ask("**One** `two`\n\n```\n<three>\n```")
    tab.send("go")
    tab.finish()
    tab.click("[aria-label='Copy the answer']")
    tab.wait("document.querySelector('#toast').innerText === 'Copied'")
    assert tab.evaluate("copied") == "**One** `two`\n\n```\n<three>\n```"
    tab.click(".code button")
    tab.wait("copied === '<three>'")
    tab.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # a page over http
    tab.click("[aria-label='Copy the answer']")
    tab.wait("document.querySelector('#toast').innerText.startsWith('The browser does not allow')")
