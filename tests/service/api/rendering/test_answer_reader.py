"""The stop cutter equals a search in the whole text, however it is cut into pieces; annotations point at what they quote."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.conversation.events import Done, TextPiece, ToolCall
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest, TokenControls
from service.api.rendering.answer_reader import ChoiceReader, ExtraDelta, StopCutter, TextDelta
from tests.service.api.scripted_service import CITED, QUOTE

REQUEST = AnswerRequest("req_a", Caller(), "chat.completions", "minigpt")


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.text("ab", max_size=4), max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_a_stop_string_is_found_however_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    cutter = StopCutter(stops)
    shown = ""
    for piece in pieces:
        shown += cutter.add(piece)
        assert not any(stop in shown for stop in stops)
    shown += cutter.finish()
    text = "".join(pieces)
    first = min((text.find(stop) for stop in stops if stop in text), default=None)
    # The first stop string that is complete ends the text; one that begins earlier and ends later is not waited for.
    if first is None:
        assert shown == text
        assert not cutter.is_stopped
    else:
        assert cutter.is_stopped
        assert text.startswith(shown)
        assert any(text.startswith(stop, len(shown)) for stop in stops)


def test_text_is_not_held_back_without_need() -> None:
    cutter = StopCutter(["###"])
    assert [cutter.add(piece) for piece in ("a", "b#", "#c", "##", "# d")] == ["a", "b", "##c", "", ""]
    assert cutter.is_stopped


def test_annotations_are_places_in_the_text() -> None:
    reader = ChoiceReader(REQUEST)
    second = replace(CITED, text="Another quote.", url="https://docs.example/x")
    text = f'First: "{QUOTE}" [list.sum]. Then "Another quote." and "{QUOTE}" again.'
    for event in (CITED, second, CITED, TextPiece(text[:30]), TextPiece(text[30:]), Done(5, 9, 0.1, 0.1, "end", 2)):
        reader.take(event)
    rows = reader.make_annotations()
    assert [text[row["start_index"] : row["end_index"]] for row in rows] == [QUOTE, "Another quote.", QUOTE]
    assert rows[0]["start_index"] < rows[1]["start_index"] < rows[2]["start_index"]
    assert [row["url"] for row in rows[:2]] == ["urn:minigpt:document:d1", "https://docs.example/x"]


def test_a_citation_names_a_file_and_not_where_the_server_has_it() -> None:
    for url in ("/srv/state/books/leave.md", "C:\\books\\leave.md", "file:///srv/leave.md", "leave.md"):
        reader = ChoiceReader(REQUEST)
        [delta] = reader.take(replace(CITED, url=url))
        assert isinstance(delta, ExtraDelta)
        assert delta.value["url"] == reader.citations[0]["url"] == "leave.md"
        reader.take(TextPiece(f'"{QUOTE}"'))
        assert [row["url"] for row in reader.make_annotations()] == ["urn:minigpt:document:d1"]


def test_reasons_and_totals() -> None:
    for reason, expected in (
        ("end", "stop"),
        ("window", "length"),
        ("length", "length"),
        ("content_filter", "content_filter"),
    ):
        reader = ChoiceReader(REQUEST)
        reader.take(Done(3, 1, 0.1, 0.1, "end", 1))  # the call of a tool
        reader.take(Done(10, 4, 0.1, 0.1, reason, 5))
        assert reader.finish_reason == expected
        assert (reader.n_prompt_tokens, reader.n_tokens, reader.n_cached_tokens) == (13, 5, 6)


def test_calls_are_the_servers_in_a_session_and_the_clients_in_a_direct_answer() -> None:
    call = ToolCall("", "find", {"a": [1, {"b": "ü"}]})
    [server] = ChoiceReader(REQUEST).take(call)
    assert isinstance(server, ExtraDelta)
    assert server.value["type"] == "tool_call"
    direct = ChoiceReader(replace(REQUEST, is_direct=True))
    [client] = direct.take(call)
    assert (direct.finish_reason, direct.calls) == ("tool_calls", [client])
    assert direct.calls[0].arguments == '{"a": [1, {"b": "ü"}]}'


def test_a_stop_of_a_direct_answer_is_the_engines() -> None:
    request = replace(REQUEST, is_direct=True, controls=TokenControls(stop=("b",)))
    [delta] = ChoiceReader(request).take(TextPiece("abc"))
    assert delta == TextDelta("abc")
