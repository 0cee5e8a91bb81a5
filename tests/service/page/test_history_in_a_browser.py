"""Conversations in the browser: found again, deleted, in agreement between tabs, apart between people, whole after a reload."""

from __future__ import annotations

import threading

import pytest

from tests.service.page.page_double import CUT, Failure, PageDouble
from tests.service.page.page_driver import PageBrowser, PageTab

pytestmark = pytest.mark.slow
ANSWER = "article[aria-busy]"


def test_history_is_found_by_words_of_questions_and_answers(tab: PageTab, double: PageDouble) -> None:
    for number, (question, answer) in enumerate(
        {"About arrays": "An *axis* is a direction.", "About trees": "Leaves fall."}.items()
    ):
        double.ask(answer)
        tab.click("#new")
        tab.wait("!document.querySelector('article')")
        tab.send(question)
        tab.finish()
        tab.wait(f"document.querySelectorAll('#history li').length === {number + 1}")
    assert tab.list_texts("#history b") == ["About trees", "About arrays"]
    tab.press("k", 2)  # Ctrl K
    tab.wait("document.activeElement.id === 'search'")
    tab.type("direction AXIS")
    tab.wait("document.querySelectorAll('#history li').length === 1")
    assert "An *axis* is a direction." in tab.text("#history")
    tab.click("#history a")
    tab.wait(f"document.querySelector('{ANSWER}')?.innerText.includes('axis')")
    assert tab.evaluate("document.querySelector('#history [aria-current=page]').innerText").startswith("About arrays")
    tab.evaluate("document.querySelector('#search').focus()")
    tab.type(" nowhere")
    tab.wait("document.querySelector('#history').innerText === 'No conversation has these words.'")


def test_a_reload_shows_the_same_conversation(tab: PageTab, double: PageDouble) -> None:
    double.ask("**Bold** answer.")
    tab.send("first")
    tab.finish()
    double.ask("Another.")
    tab.click("[aria-label='Answer again']")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'Another.'")
    tab.finish()
    tab.evaluate("document.querySelector('#message').focus()")
    tab.type("a draft")
    before = tab.list_texts("article")
    tab.reload()
    tab.wait("document.querySelectorAll('article').length === 2")
    assert tab.list_texts("article") == before
    assert tab.evaluate("document.querySelector('#message').value") == "a draft"
    tab.click("[aria-label='Previous version']")
    tab.wait("document.querySelector('.text strong')?.textContent === 'Bold'")


def test_a_reload_in_mid_answer_keeps_what_came_and_says_so(tab: PageTab, double: PageDouble) -> None:
    gate = threading.Event()
    double.ask("The first half", gate, " and the rest.")
    tab.send("go")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'The first half'")
    tab.evaluate("new Promise((resolve) => setTimeout(resolve, 300))")  # until it is stored
    tab.reload()
    tab.wait(f"document.querySelector('{ANSWER}')?.innerText.includes('closed or reloaded')")
    assert tab.text(f"{ANSWER} .text") == "The first half"
    gate.set()
    tab.click(f"{ANSWER} .note button")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'An answer.'")


def test_two_tabs_agree_while_one_of_them_gets_an_answer(
    tab: PageTab, double: PageDouble, browser: PageBrowser
) -> None:
    gate = threading.Event()
    double.ask("Half", gate, " and half.")
    tab.send("go")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'Half'")
    other = browser.open_tab(tab.context)
    other.open(double.url)
    other.wait("document.querySelectorAll('#history li').length === 1")
    other.click("#history a")
    other.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'Half'")
    gate.set()
    other.wait(f"document.querySelector('{ANSWER} .text')?.textContent === 'Half and half.'")
    other.finish()
    assert "closed or reloaded" not in other.text()
    double.ask("From the other tab.")
    other.send("and you?")
    tab.finish(2)
    assert tab.list_texts("article .text, .said") == ["go", "Half and half.", "and you?", "From the other tab."]
    assert double.list_prompts()[-1] == ["go", "Half and half.", "and you?"]
    assert other.evaluate("alarms") == []
    other.connection.close()


def test_what_is_deleted_in_one_tab_is_gone_in_the_other_even_in_mid_answer(
    tab: PageTab, double: PageDouble, browser: PageBrowser
) -> None:
    double.ask("Half", 0.1, *["."] * 50, 20.0)
    tab.send("go")
    tab.wait(f"document.querySelector('{ANSWER} .text')?.textContent.startsWith('Half')")
    other = browser.open_tab(tab.context)
    other.open(double.url)
    other.wait("document.querySelectorAll('#history li').length === 1")
    other.evaluate("document.querySelector('#history button').focus()")
    other.press("Enter")
    assert other.text("#history button") == "Delete?"  # asks once more
    other.press("Enter")
    other.wait("!document.querySelector('#history li')")
    tab.wait("!document.querySelector('article') && !document.querySelector('#history li')")
    tab.reload()
    tab.wait("document.querySelector('#history').innerText === 'No conversations yet.'")
    assert double.n_cancelled == 1
    other.connection.close()


def test_people_who_share_a_browser_do_not_see_each_others_conversations(tab: PageTab, double: PageDouble) -> None:
    tab.send("mine")
    tab.finish()
    double.user = "bob"
    tab.reload()
    tab.wait("document.querySelector('#history').innerText === 'No conversations yet.'")
    assert "mine" not in tab.text()
    double.user = "ada"
    tab.reload()
    tab.wait("document.querySelectorAll('#history li').length === 1")


def test_a_page_that_may_store_nothing_says_so_and_works(browser: PageBrowser, double: PageDouble) -> None:
    context = browser.make_context()
    tab = browser.open_tab(context)
    tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="IDBFactory.prototype.open = () => { throw new DOMException('no', 'SecurityError'); };",
    )
    tab.open(double.url)
    assert "This browser keeps nothing" in tab.text("#kept")
    tab.send("go")
    tab.finish()
    tab.send("again")
    tab.finish(2)
    assert double.list_prompts()[-1] == ["go", "An answer.", "again"]
    tab.connection.close()
    browser.close_context(context)


def test_a_full_disk_is_said_and_the_answer_is_shown(tab: PageTab) -> None:
    tab.evaluate("IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); }; 0")
    tab.send("go")
    tab.wait(
        "document.querySelector('#toast').innerText === \"This browser can't store more. Delete old conversations.\""
    )
    tab.finish()
    assert tab.text(f"{ANSWER} .text") == "An answer."


def test_a_slow_network_shows_what_comes_when_it_comes(tab: PageTab, double: PageDouble) -> None:
    text = [f"Sentence number {number}. " for number in range(40)]
    double.ask(*text)
    tab.call(
        "Network.emulateNetworkConditions",
        offline=False,
        latency=200,
        downloadThroughput=20_000,
        uploadThroughput=20_000,
    )
    tab.send("go")
    tab.wait("document.querySelector('.waiting')?.innerText === 'Waiting for the answer'")
    tab.wait(f"document.querySelector('{ANSWER}[aria-busy=true] .text')?.textContent.includes('number 3')")
    assert "number 39" not in tab.text(ANSWER)
    tab.finish()
    assert tab.text(f"{ANSWER} .text") == "".join(text).strip()


def test_silence_is_named_and_can_be_stopped(browser: PageBrowser, double: PageDouble) -> None:
    context = browser.make_context()
    tab = browser.open_tab(context)
    faster = "const later = setTimeout; window.setTimeout = (act, ms, ...rest) => later(act, ms > 5000 ? ms / 40 : ms, ...rest);"
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=faster)
    tab.open(double.url)
    double.ask("So far", 30.0)
    tab.send("go")
    tab.wait("document.querySelector('.waiting')?.innerText.startsWith('Still waiting')")
    tab.press("Escape")
    tab.finish()
    assert not tab.evaluate("document.querySelector('.waiting')")
    tab.connection.close()
    browser.close_context(context)


def test_offline_is_said_and_what_is_here_stays_readable(tab: PageTab, double: PageDouble) -> None:
    tab.send("before")
    tab.finish()
    tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.wait("document.querySelector('#banner').innerText.startsWith('You are offline.')")
    tab.send("lost?")
    tab.finish(2)
    assert "Check your connection, then try again." in tab.text()
    assert "An answer." in tab.text()
    tab.call("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    tab.wait("document.querySelector('#banner').innerText === ''")
    tab.evaluate("[...document.querySelectorAll('.note button')].at(-1).click()")
    tab.wait(
        f"[...document.querySelectorAll('{ANSWER} .text')].map((each) => each.textContent).join() === 'An answer.,An answer.'"
    )


def test_a_key_is_asked_for_checked_and_kept_in_the_tab_only(browser: PageBrowser, double: PageDouble) -> None:
    double.key = "mg-right"
    context = browser.make_context()
    tab = browser.open_tab(context)
    tab.open(double.url, "document.querySelector('#panel').open")
    for key, shown in {"zwei Wörter": "no spaces", "mg-wrong": "not accepted"}.items():
        tab.evaluate("document.querySelector('[name=key]').focus(); document.querySelector('[name=key]').select()")
        tab.type(key)
        tab.press("Enter")
        tab.wait(f"document.querySelector('#panel').innerText.includes({shown!r})")
    tab.evaluate("document.querySelector('[name=key]').focus()")
    tab.type(" mg-right ")
    tab.press("Enter")
    tab.wait("document.querySelector('#profile').options.length === 3 && !document.querySelector('#panel').open")
    tab.send("go")
    tab.finish()
    tab.reload()
    assert not tab.evaluate("document.querySelector('#panel').open")
    kept = "JSON.stringify([localStorage, document.cookie]) + document.documentElement.outerHTML"
    assert "mg-right" not in tab.evaluate(kept)
    double.key = "mg-other"  # the key was revoked in the middle
    tab.send("more")
    tab.wait("document.querySelector('#panel').open")
    assert "not accepted" in tab.text("#panel")
    tab.press("Escape")  # without a key the page shows what it has
    tab.click("#new")
    tab.wait("!document.querySelector('article')")
    tab.click("#sign-out")
    tab.settle("document.querySelector('#panel')?.open")
    assert tab.evaluate("Object.keys(sessionStorage).join()") in ("", "minigpt-draft")
    tab.press("Escape")
    tab.click("#new")  # nothing is known of anybody now, and nothing breaks
    assert tab.evaluate("alarms") == []
    tab.connection.close()
    browser.close_context(context)


def test_a_service_that_restarts_is_waited_for(tab: PageTab, double: PageDouble) -> None:
    double.is_down = True
    tab.call("Page.reload")
    tab.settle("document.querySelector('.empty .note')")
    assert "The service is busy." in tab.text(".empty")
    double.is_down = False
    tab.click(".empty .note button")
    tab.wait("document.querySelector('#profile').options.length === 3")
    double.replies += [Failure(503, "Draining."), ["a", CUT]]
    tab.send("go")
    tab.finish()
    assert "The service is busy." in tab.text(ANSWER)
