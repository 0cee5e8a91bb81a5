"""Tools of files run in processes of their own: what goes wrong there stays there."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from assistant.tools.tool_declaration import ToolDeclaration
from assistant.tools.tool_files import ToolFiles, get_tools_folder
from assistant.tools.tool_registry import ToolRegistry
from tests.conftest import ROOT

SHOP = '''
import os, sys, time
from typing import Annotated
from pydantic import Field
from assistant.tools.tool_declaration import tool

@tool(effects={"reads"})
def look_up_order(number: Annotated[int, Field(ge=1)]) -> dict[str, int]:
    """Return an order."""
    print("printed")
    return {"number": number}

@tool(max_seconds=0.3)
def wait_for(seconds: float) -> str:
    """Wait."""
    time.sleep(seconds)
    return "waited"

@tool(max_memory_mb=50)
def use_memory(megabytes: int) -> int:
    """Use memory."""
    return len(bytearray(megabytes << 20))

@tool()
def end_process(how: str) -> str:
    """End the process."""
    os._exit(3) if how == "exit" else sys.exit(how)

@tool(effects={"leaves"})
def read_environment(name: str) -> str:
    """Return a variable."""
    if not name:
        raise RuntimeError("password=hunter2")
    return os.environ.get(name, "nothing")

def not_a_tool() -> None: ...
'''
Call = Callable[..., str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolFiles]:
    folder = tmp_path_factory.mktemp("tools")
    (folder / "shop.py").write_text(SHOP)
    (folder / "_shared.py").write_text("raise RuntimeError")
    opened = ToolFiles(folder)
    yield opened
    opened.close()


@pytest.fixture
def call(files: ToolFiles) -> Call:
    tools = {declaration.name: declaration for declaration in files.declarations}

    def call_tool(tool: str, **arguments: object) -> str:
        return tools[tool].call(arguments, 60.0)

    return call_tool


def test_files_declare_tools_like_code_does(files: ToolFiles) -> None:
    found = {each.name: each for each in files.declarations}
    assert list(found) == ["look_up_order", "wait_for", "use_memory", "end_process", "read_environment"]
    order: ToolDeclaration = found["look_up_order"]
    assert (order.effects, order.is_trusted, order.origin) == ({"reads"}, True, "the file shop.py")
    assert order.parameters["properties"]["number"]["minimum"] == 1
    assert not found["read_environment"].is_trusted
    assert ToolRegistry(files.declarations).make_tools().run("look_up_order", '{"number": 7}').text == '{"number": 7}'


def test_arguments_are_checked_by_name(call: Call) -> None:
    with pytest.raises(ValueError, match=r"look_up_order\.number: Input should be a valid integer; found '7'"):
        call("look_up_order", number="7")


def test_a_slow_call_is_killed_and_the_next_one_runs(call: Call) -> None:
    assert call("wait_for", seconds=0) == "waited"
    with pytest.raises(ValueError, match=r"wait_for took longer than 0\.3 seconds"):
        call("wait_for", seconds=60)
    assert call("look_up_order", number=1) == '{"number": 1}'


def test_memory_is_bounded_per_call(call: Call) -> None:
    assert call("use_memory", megabytes=20) == str(20 << 20)
    with pytest.raises(ValueError, match=r"use_memory needs more than 50 MB; ask for less"):
        call("use_memory", megabytes=200)
    assert call("use_memory", megabytes=20) == str(20 << 20)


def test_a_process_that_ends_is_an_error_of_one_call(call: Call) -> None:
    with pytest.raises(ValueError, match=r"end_process failed: its process ended"):
        call("end_process", how="exit")
    with pytest.raises(ValueError, match=r"end_process failed \(SystemExit\)"):
        call("end_process", how="bye")
    assert call("look_up_order", number=1) == '{"number": 1}'


def test_no_secret_reaches_a_tool_or_an_error(call: Call, files: ToolFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_SECRET", "hunter2")
    monkeypatch.setenv("SHOP_ADDRESS", "here")
    files.close()  # the next call starts a process with these variables
    assert [call("read_environment", name=name) for name in ("MINIGPT_SECRET", "SHOP_ADDRESS")] == ["nothing", "here"]
    with pytest.raises(ValueError, match=r"^read_environment failed \(RuntimeError\)$"):
        call("read_environment", name="")


def test_calls_at_once_get_their_own_answers(call: Call) -> None:
    answers: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda number=number: answers.update({number: call("look_up_order", number=number)}))
        for number in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f'{{"number": {number}}}' for number in range(1, 9)}


def test_a_tool_ends_when_its_service_is_killed(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(SHOP.replace("max_seconds=0.3", "max_seconds=300"))
    program = (
        "import sys; from pathlib import Path; from assistant.tools.tool_files import ToolFiles\n"
        "tool = ToolFiles(Path(sys.argv[1])).declarations[1]; print(flush=True); tool.call({'seconds': 300.0}, 300)"
    )
    service = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert service.stdout is not None
    assert service.stdout.readline() == b"\n"
    children = psutil.Process(service.pid).children()
    assert len(children) == 1
    service.kill()
    service.wait()
    service.stdout.close()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_closing_ends_the_processes(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(SHOP)
    opened = ToolFiles(tmp_path)
    children = [each for each in psutil.Process().children() if str(tmp_path) in " ".join(each.cmdline())]
    assert len(children) == 1
    opened.close()
    assert not children[0].is_running()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = (", r"tools: bad\.py can't be imported; found SyntaxError"),
        ("import os; os._exit(1)", r"tools: bad\.py can't be imported; found failed: its process ended \(1\)"),
        ("raise SystemExit", r"tools: bad\.py can't be imported; found SystemExit"),
        ("x = 1", r"tools: bad\.py declares no tool"),
        (
            "from assistant.tools.tool_declaration import tool\n@tool()\ndef f(x):\n  'Do.'",
            r"tools: bad\.py can't be imported; found ValueError: tool\.name|f\.x has no annotation",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(ValueError, match=message):
        ToolFiles(tmp_path)


def test_a_folder_without_tools_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match="MINIGPT_TOOLS: "):
            ToolFiles(folder)
    monkeypatch.setenv("MINIGPT_TOOLS", str(tmp_path))
    assert get_tools_folder() == tmp_path
    monkeypatch.delenv("MINIGPT_TOOLS")
    assert get_tools_folder() is None
    assert ToolFiles(None).declarations == []
