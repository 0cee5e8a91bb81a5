"""The chat as users start it: a real process, through a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.cells import cell_len

from assistant.terminal.plain_text import strip_control_characters
from assistant.terminal.repl import main
from assistant.terminal.screen import WordWrapper
from tests.conftest import ROOT

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "PROMPT_TOOLKIT_NO_CPR": "1",
}


def make_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "assistant", *arguments]


def run_piped(folder: Path, lines: bytes, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    argv = make_command("--model", str(folder), *arguments)
    return subprocess.run(argv, input=lines, capture_output=True, cwd=cwd, env=ENVIRONMENT, timeout=60, check=False)


def test_a_conversation_through_a_pipe(learned: Path, tmp_path: Path) -> None:
    lines = (
        "What is 12 * 7?\n/stats\n/system be brief\n/system\n/nonsense\n/help\n/reset\n\nlinalg.inv?\n/quit\nunread\n"
    )
    chat = run_piped(learned, lines.encode(), tmp_path)
    remarks = chat.stderr.decode()
    assert chat.returncode == 0, remarks
    assert chat.stdout.decode() == '12 * 7 = 84\nlinalg.inv: "Compute the inverse of a matrix." [1]\n'
    for expected in (
        f"phase sft, from {learned}: named by --model",
        f"search_docs over 6 sections from {learned.parent / 'index'}, by names and words",
        "calculator(12 * 7) → 84",
        "the system prompt is set",
        "the system prompt is removed",
        "unknown command /nonsense; /help lists them",
        "/reset        forget this conversation",
        "conversation forgotten",
        "search_docs(linalg.inv)",
        '  [numpy.linalg.inv] "Compute the inverse of a matrix." — inv(a)',
    ):
        assert expected in remarks
    assert remarks.count("tokens/s, first token after") == 1  # for /stats only
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_base_model_continues_each_line_and_accepts_invalid_utf_8(base: Path) -> None:
    chat = run_piped(base, b"Once upon\nbad \xff\xfe bytes\n no newline at the end", base, "--max-tokens", "5")
    assert chat.returncode == 0, chat.stderr
    assert b"a base model: it continues your text" in chat.stderr
    assert chat.stdout.count(b"\n") >= 3
    assert b"Traceback" not in chat.stderr


@pytest.mark.slow
def test_a_base_model_begins_a_text_on_an_empty_line_and_no_two_are_drawn_alike(base: Path) -> None:
    options = ("--max-tokens", "8", "--temperature", "1")
    first, second = (run_piped(base, b"\n\n", base, *options) for _ in range(2))
    texts = first.stdout.decode().splitlines()
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert texts[0] != texts[-1]


@pytest.mark.slow
def test_ctrl_c_interrupts_an_answer_and_a_second_one_quits(endless: Path) -> None:
    argv = make_command("--model", str(endless), "--max-tokens", "30000")
    pipes = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipes, stdout=pipes, stderr=pipes, env=ENVIRONMENT, cwd=endless) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        assert chat.stderr is not None
        chat.stdin.write(b"hello\n")
        chat.stdin.flush()
        os.set_blocking(chat.stdout.fileno(), False)
        wait_for(chat.stdout.fileno(), rb".")
        chat.send_signal(signal.SIGINT)
        output = wait_for(chat.stderr.fileno(), rb"interrupted\n")
        assert output.count(b"no search_docs, because there is no index next to") == 1
        assert b"Traceback" not in output
        chat.send_signal(signal.SIGINT)
        assert chat.wait(10) == 130
        assert b"Traceback" not in chat.stderr.read()


def wait_for(descriptor: int, pattern: bytes, seconds: float = 30.0) -> bytes:
    """Read until the pattern appears. Return the end of the output."""
    output, deadline = b"", time.monotonic() + seconds
    while not re.search(pattern, output, re.DOTALL):
        is_ready = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))[0]
        piece = os.read(descriptor, 65536) if is_ready and time.monotonic() < deadline else b""
        if not piece:
            pytest.fail(f"{pattern!r} did not appear in {output[-300:]!r}")
        output = (output + piece)[-10_000:]
    return output


@pytest.mark.slow
def test_on_a_terminal(endless: Path, tmp_path: Path) -> None:
    """Ctrl-C interrupts the answer; after a command, two more quit, or one Ctrl-D does."""
    (tmp_path / "var").mkdir()
    argv = make_command("--model", str(endless), "--max-tokens", "30000")
    for last_key in (b"\x03", b"\x04"):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT, cwd=tmp_path, start_new_session=True
        ) as chat:
            os.close(theirs)
            stop_later = threading.Timer(60, chat.kill)
            stop_later.start()
            wait_for(ours, rb"you ")
            os.write(ours, b"hello\r")
            wait_for(ours, rb"2004l.*\w\w")
            time.sleep(0.2)
            chat.send_signal(signal.SIGINT)
            wait_for(ours, rb"interrupted.*you ")
            os.write(ours, b"/reset\r")
            wait_for(ours, rb"forgotten.*you ")
            if last_key == b"\x03":
                os.write(ours, last_key)
                wait_for(ours, rb"press Ctrl-C again.*you ")
            os.write(ours, last_key)
            assert drain(ours, chat) == (130 if last_key == b"\x03" else 0)
        stop_later.cancel()
        os.close(ours)
    assert "/reset" in (tmp_path / "var/chat_history").read_text()


def drain(descriptor: int, chat: subprocess.Popen[bytes]) -> int:
    """Return the exit code. Read the remaining output, without which the process could not end."""
    deadline = time.monotonic() + 20
    while chat.poll() is None and time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.1)[0]:
            try:
                os.read(descriptor, 65536)
            except OSError:  # how Linux reports that the other end is closed
                break
    return chat.wait(10)


def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert "make run" in capsys.readouterr().err
    assert main(["--model", "nothing"]) == 1
    assert "not found: nothing" in capsys.readouterr().err
    assert main(["--temperature", "99"]) == 1
    assert "temperature" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--temprature", "1"])
    assert caught.value.code == 2


def test_escape_codes_never_reach_the_terminal() -> None:
    assert strip_control_characters("\x1b[2Jred\x1b]0;title\x07 a\tb\nc\r\x9bd") == "[2Jred]0;title a\tb\ncd"


WORDS = st.lists(st.sampled_from(["a", "bb", " ", "  ", "\n", "xyz", "日本"]), max_size=60).map("".join)


@given(text=WORDS, width=st.integers(12, 40), sizes=st.lists(st.integers(1, 5), min_size=60, max_size=300))
def test_lines_break_between_words_however_the_text_arrives(text: str, width: int, sizes: list[int]) -> None:
    assume(all(cell_len(word) < width for word in text.split()))
    wrapper, output, start = WordWrapper(lambda: width), "", 0
    for size in sizes:
        output += wrapper.wrap(text[start : start + size])
        start += size
    output += wrapper.wrap(text[start:]) + wrapper.flush()
    assert output.split() == text.split()
    assert all(cell_len(line.rstrip()) <= width for line in output.split("\n"))
    if all(cell_len(line) <= width for line in text.split("\n")):
        assert output == text


def test_a_word_longer_than_the_line_is_shown_before_it_ends() -> None:
    wrapper = WordWrapper(lambda: 10)
    assert wrapper.wrap("one ") == "one"
    assert wrapper.wrap("abcdefgh") == ""
    assert wrapper.wrap("ijkl") == "\nabcdefghijkl"
    assert wrapper.wrap("mnop q") == "mnop"
    assert wrapper.flush() == "\nq"


def test_a_pipe_has_a_profile_and_a_memory_only_where_flags_name_them(learned: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: Zoe\ngreeting: I am {name}.\ntools: [calculator]\n")
    (tmp_path / "var").mkdir()
    lines = b"who are you?\nremember that I like tea\n/memories\n/profile\n/help\nWhat is 12 * 7?\n"
    flags = ("--profile", str(tmp_path / "mine.yaml"), "--memory", str(tmp_path / "m.sqlite"))
    chat = run_piped(learned, lines, tmp_path, *flags)
    remarks = chat.stderr.decode()
    assert chat.returncode == 0, remarks
    assert chat.stdout.decode() == 'I am Zoe.\nI remember: "I like tea" [memory 1]\n12 * 7 = 84\n'
    for expected in (
        "I am Zoe.\n",
        "[memory 1] I like tea (conversation ",
        "tools: calculator; grounding: prefer",
        "/forget N|all",
    ):
        assert expected in remarks
    assert "search_docs" not in remarks.replace("no search_docs", "")
    plain = run_piped(learned, b"/memories\n", tmp_path)
    assert b"unknown command /memories" in plain.stderr
    assert not list((tmp_path / "var").iterdir())
