"""Answers in a real browser: what is streamed is what is shown, exactly and safely; and what a person can do with an answer."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest

from tests.service.page.page_double import CUT, Failure, PageDouble, make_chunk
from tests.service.page.page_driver import PageTab

pytestmark = pytest.mark.slow
ANSWER = "article[aria-busy]"

HEAD = "<div><span>{}</span><button>Copy</button></div>"
MARKDOWN = {  # text: the elements, without their attributes
    "**bold** and *slanted* and `a*b*`": "<p><strong>bold</strong> and <em>slanted</em> and <code>a*b*</code></p>",
    "snake_case_name, 2*3, 2 * 3 * 4": "<p>snake_case_name, 2*3, 2 * 3 * 4</p>",
    "# Title\ntext": "<h2>Title</h2><p>text</p>",
    "- a\n- b\n  1. c\n  2. d\n\nend": "<ul><li>a</li><li>b<ol><li>c</li><li>d</li></ol></li></ul><p>end</p>",
    "3. c\n4. d": "<ol><li>c</li><li>d</li></ol>",
    "> quoted\n> more": "<blockquote><p>quoted<br>more</p></blockquote>",
    "```python\nx = '<b>'\n```\nend": f"<div>{HEAD.format('python')}<pre><code>x = '&lt;b&gt;'</code></pre></div><p>end</p>",
    "~~~\nopen": f"<div>{HEAD.format('text')}<pre><code>open</code></pre></div>",
    "|a|b|\n|-|:-:|\n|1|**2**|": (
        "<div><table><thead><tr><th>a</th><th>b</th></tr></thead>"
        "<tbody><tr><td>1</td><td><strong>2</strong></td></tr></tbody></table></div>"
    ),
    "a | b\nc": "<p>a | b<br>c</p>",
    "a\n\n---": "<p>a</p><hr>",
    "[the *text*](https://a.example/x_(y))": "<p><a>the <em>text</em></a></p>",
    "[no](javascript:alert) [no](/v1/me)": "<p><span>no</span> <span>no</span></p>",
    "see https://a.example/b, or not": "<p>see <a>https://a.example/b</a>, or not</p>",
    "![a picture](https://a.example/p.png)": "<p><a>Picture: a picture</a></p>",
    r"\*plain\* 1 < 2 & <b>": "<p>*plain* 1 &lt; 2 &amp; &lt;b&gt;</p>",
    "a ` b `` c ` d ``": "<p>a <code>b `` c</code> d ``</p>",
    "***both*** and * not": "<p><strong><em>both</em></strong> and * not</p>",
    "[not] (a link) ![nor this] [": "<p>[not] (a link) ![nor this] [</p>",
}
SHOWN = "[...document.querySelectorAll('article[aria-busy] .text')].at(-1).innerHTML.replace(/<(\\w+) [^>]*>/g, '<$1>')"


def test_markdown_becomes_elements(tab: PageTab, double: PageDouble) -> None:
    for number, (text, expected) in enumerate(MARKDOWN.items(), 1):
        double.ask(*text)  # character by character
        tab.send("go")
        tab.finish(number)
        assert tab.evaluate(SHOWN) == expected, text
    assert set(tab.evaluate("[...document.querySelectorAll('.text a')].map((each) => each.rel)")) == {
        "noopener noreferrer"
    }


def test_text_is_shown_while_it_is_streamed_and_stays_exact_however_it_is_cut(tab: PageTab, double: PageDouble) -> None:
    gate, text = threading.Event(), "Grüße, 😀 and ≥ 3.\n\nEnd."
    data = b"".join(make_chunk({"content": character}) for character in text).replace(b"\n\n", b"\r\n\r\n")
    pieces: list[Any] = []
    for at in range(0, len(data), 97):  # in the middle of characters, of lines and of line breaks
        pieces += [data[at : at + 97], 0.001]
    double.ask("First. ", gate, b": keep-alive\n\n", *pieces)
    tab.send("go")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'First. '")
    gate.set()
    tab.finish()
    assert tab.list_texts(f"{ANSWER} .text p") == ["First. Grüße, 😀 and ≥ 3.", "End."]


def test_a_finished_block_keeps_its_node_while_more_text_comes(tab: PageTab, double: PageDouble) -> None:
    gate = threading.Event()
    double.ask("One.\n\nTwo", gate, " more.\n\nThree.")
    tab.send("go")
    tab.wait(f"document.querySelectorAll('{ANSWER} .text p').length === 2")
    tab.evaluate(f"window.kept = document.querySelector('{ANSWER} .text p')")
    gate.set()
    tab.finish()
    assert tab.list_texts(f"{ANSWER} .text p") == ["One.", "Two more.", "Three."]
    assert tab.evaluate(f"window.kept === document.querySelector('{ANSWER} .text p')")


PASSAGE = "numpy.sum(a) 😀 — Sum of the elements, over an axis.\n\n    More text."
QUOTE = "Sum of the elements, over an axis."


def make_citation(**changes: Any) -> dict[str, Any]:
    start = 1000 + PASSAGE.index(QUOTE)  # Python counts code points, JavaScript does not
    made = {
        "type": "citation",
        "number": 1,
        "doc_id": "d",
        "title": "numpy.sum: summary",
        "heading": ["numpy.sum", "Summary"],
    }
    made |= {
        "start": start,
        "end": start + len(QUOTE),
        "page": 3,
        "line_start": 7,
        "line_end": 8,
        "url": "https://a.example/sum",
    }
    made |= {"license": "BSD-3-Clause", "text": QUOTE, "sha256": hashlib.sha256(PASSAGE.encode()).hexdigest()}
    return made | {"passage": {"text": PASSAGE, "start": 1000}} | changes


def test_a_citation_opens_the_exact_passage(tab: PageTab, double: PageDouble) -> None:
    double.ask("It says: ", make_citation(), f'"{QUOTE}" [numpy.sum: summary]', ".")
    tab.send("go")
    tab.finish()
    assert tab.text(f"{ANSWER} .text") == f'It says: "{QUOTE}"1.'
    assert tab.evaluate("document.querySelector('.cite').ariaLabel") == "Source 1: numpy.sum › Summary"
    tab.click(".cite")
    tab.wait(
        "document.querySelector('#panel').open && document.querySelector('#panel').innerText.includes('matches this passage')"
    )
    assert tab.text("#panel .passage mark") == QUOTE
    assert tab.evaluate("document.querySelector('#panel .passage').textContent") == PASSAGE
    shown = tab.text("#panel dl")
    for fact in ("numpy.sum › Summary", "7–8", f"{1000 + PASSAGE.index(QUOTE)}–", "BSD-3-Clause", "3"):
        assert fact in shown
    assert tab.evaluate("document.querySelector('#panel a').href") == "https://a.example/sum"
    tab.press("Escape")
    tab.wait("!document.querySelector('#panel').open && document.activeElement.className === 'cite'")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"sha256": "0" * 64}, "does not match this passage"),
        ({"passage": None}, "no passage around"),
        ({"url": "javascript:alert(1)"}, "javascript:"),
    ],
)
def test_a_citation_that_is_not_in_order_is_shown_as_what_it_is(
    tab: PageTab, double: PageDouble, changes: dict[str, Any], shown: str
) -> None:
    double.ask(make_citation(**changes), f'"{QUOTE}" [numpy.sum: summary]')
    tab.send("go")
    tab.finish()
    tab.click(".sources button")
    tab.wait(f"document.querySelector('#panel').innerText.includes({shown!r})")
    assert tab.evaluate("[...document.querySelectorAll('#panel a')].every((each) => each.protocol === 'https:')")


def test_tool_calls_unfold_and_stay_open_while_the_answer_goes_on(tab: PageTab, double: PageDouble) -> None:
    gate = threading.Event()
    found = {
        "query": "sum",
        "notes": ["“summ” was read as “sum”"],
        "results": [{"title": "a", "line": "[a] One <b>line</b>."}],
    }
    double.ask(
        {"type": "recalled", "number": 2, "text": "I like axis 0.", "source": "conversation x"},
        {"type": "tool_call", "number": 1, "name": "search_docs", "arguments": {"query": "sum"}},
        gate,
        {"type": "tool_result", "number": 1, "name": "search_docs", "text": "…", "is_error": False, "search": found},
        {"type": "tool_call", "number": 2, "name": "run_code", "arguments": {"code": "1/0"}},
        {"type": "tool_result", "number": 2, "text": "no", "is_error": True, "decision": "A policy forbids it."},
        {"type": "notice", "text": "Only two sources were read."},
        "Done.",
    )
    tab.send("go")
    tab.wait("document.querySelector('summary')?.innerText === 'Searched: sum …'")
    tab.click("summary")
    gate.set()
    tab.finish()
    assert tab.list_texts("summary") == ["Searched: sum – 1 passage", "Used run_code: 1/0 – failed"]
    assert tab.evaluate("[...document.querySelectorAll('details')].map((each) => each.open)") == [True, False]
    assert tab.text("details .inside").split("\n")[0] == "“summ” was read as “sum”"
    assert "[a] One <b>line</b>." in tab.text("details .inside")
    assert "Remembered: I like axis 0." in tab.text(ANSWER)
    assert "Only two sources were read." in tab.text(ANSWER)
    tab.evaluate("document.querySelectorAll('summary')[1].click()")
    assert "A policy forbids it." in tab.text(ANSWER)


def test_escape_stops_the_answer_and_the_service_hears_of_it(tab: PageTab, double: PageDouble) -> None:
    double.ask("Half of", 30.0, " the answer")
    tab.send("go")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'Half of'")
    assert tab.evaluate("document.querySelector('#send').ariaLabel") == "Stop"
    tab.press("Escape")
    tab.finish()
    assert "You stopped this answer." in tab.text(ANSWER)
    assert tab.text(f"{ANSWER} .text") == "Half of"
    for _ in range(200):
        if double.n_cancelled:
            break
        threading.Event().wait(0.01)
    assert double.n_cancelled == 1
    assert tab.evaluate("document.querySelector('#send').ariaLabel") == "Send"


def test_regenerated_answers_are_versions_of_one_another(tab: PageTab, double: PageDouble) -> None:
    double.ask("One.")
    double.ask("Two.")
    double.ask("After one.")
    tab.send("go")
    tab.finish()
    tab.click("[aria-label='Answer again']")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'Two.'")
    tab.finish()
    assert "2/2" in tab.text(ANSWER)
    tab.click("[aria-label='Previous version']")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'One.'")
    tab.send("and then?")
    tab.finish(2)
    assert double.list_prompts() == [["go"], ["go"], ["go", "One.", "and then?"]]
    tab.evaluate("document.querySelector('[aria-label=\"Next version\"]').click()")
    tab.wait(f"document.querySelectorAll('{ANSWER}').length === 1")
    assert tab.text(f"{ANSWER} .text") == "Two."


def test_an_edited_question_is_a_branch_and_the_other_one_stays(tab: PageTab, double: PageDouble) -> None:
    double.ask("One.")
    double.ask("Edited.")
    tab.send("first")
    tab.finish()
    tab.press("ArrowUp")  # in the empty field: edit the last question
    tab.wait("document.activeElement.ariaLabel === 'Edited question'")
    tab.evaluate("document.activeElement.select()")
    tab.type("second")
    tab.press("Enter")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'Edited.'")
    tab.finish()
    assert tab.text(".user .said") == "second"
    assert double.list_prompts() == [["first"], ["second"]]
    tab.click(".user [aria-label='Previous version']")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'One.'")
    assert tab.text(".user .said") == "first"


def test_thumbs_reach_the_service_with_reason_correction_and_consent(tab: PageTab, double: PageDouble) -> None:
    tab.send("go")
    tab.finish()
    tab.click("[aria-label='Good answer']")
    tab.wait("document.querySelector('[aria-label=\"Good answer\"]').ariaPressed === 'true'")
    tab.click("[aria-label='Bad answer']")
    tab.evaluate(
        "document.querySelector('[value=no_source]').click(); document.querySelector('[name=correction]').focus()"
    )
    tab.type("It is 42.")
    tab.evaluate("document.querySelector('[name=consent]').click()")
    tab.click("#panel .main")
    tab.wait("document.querySelector('[aria-label=\"Bad answer\"]').ariaPressed === 'true'")
    assert double.feedback == [
        {"answer": "ans_1", "rating": "up"},
        {
            "answer": "ans_1",
            "rating": "down",
            "reason": "no_source",
            "comment": "",
            "correction": "It is 42.",
            "consent": True,
        },
    ]


FAILURES: list[tuple[Any, str]] = [
    (["Half", CUT], "The connection ended before the answer was complete."),
    (
        ["Half", b'data: {"error": {"message": "The engine died.", "type": "server_error"}}\n\ndata: [DONE]\n\n'],
        "The engine died.",
    ),
    ([b"data: {nonsense\n\n"], "The service sent something that can't be read."),
    (["x", make_chunk(reason="length")], "The answer reached its length limit."),
    (["x", make_chunk(reason="content_filter")], "A policy withheld part of this answer."),
    (["x", {"type": "done", "reason": "stop", "left_out": 3}], "3 earlier messages did not fit and were not read."),
    (Failure(400, "messages: too long; found 900 tokens; shorten it."), "found 900 tokens"),
    (Failure(500, "<script>pwned()</script>"), "The service made an error."),
    (Failure(403), "Your key does not allow this."),
]


def test_what_went_wrong_is_said_and_can_be_tried_again(tab: PageTab, double: PageDouble) -> None:
    for reply, shown in FAILURES:
        tab.click("#new")
        tab.wait("!document.querySelector('article')")
        double.replies.append(reply)
        tab.send("go")
        tab.finish()
        assert shown in tab.text(ANSWER)
        tab.evaluate(f"document.querySelector('{ANSWER} .note button, {ANSWER} [aria-label=\"Answer again\"]').click()")
        tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'An answer.'")
        tab.finish()
        assert double.list_prompts()[-1] == ["go"]


def test_too_many_requests_count_down(tab: PageTab, double: PageDouble) -> None:
    double.replies.append(Failure(429, "Too many.", {"Retry-After": "2"}))
    tab.send("go")
    tab.wait(f"document.querySelector('{ANSWER} .note button')?.textContent === 'Try again in 2 s'")
    assert tab.evaluate(f"document.querySelector('{ANSWER} .note button').disabled")
    tab.wait(f"document.querySelector('{ANSWER} .note button').textContent === 'Try again'")
    tab.click(f"{ANSWER} .note button")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'An answer.'")


def test_a_question_without_an_answer_is_not_sent_again(tab: PageTab, double: PageDouble) -> None:
    double.replies.append(Failure(500))
    tab.send("lost")
    tab.finish()
    tab.send("kept")
    tab.finish(2)
    assert double.list_prompts() == [["lost"], ["kept"]]
