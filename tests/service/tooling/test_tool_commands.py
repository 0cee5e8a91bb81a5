"""The commands list, run, check and approve tools, and serve them on standard input."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from service.__main__ import main
from tests.conftest import ROOT

TICKETS = Path(__file__).with_name("protocol") / "ticket_server.py"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "behavior.json").write_text("{}")
    command = json.dumps([sys.executable, str(TICKETS), str(tmp_path / "behavior.json")])
    (tmp_path / "tools.yaml").write_text(f"code: monty\nmcp: {{tickets: {{command: {command}}}}}\n")
    return tmp_path


def test_tools_are_listed_and_run(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "list", "--state", str(state)]) == 0
    listed = capsys.readouterr().out
    assert "calculator(expression): only computes; 2 s, 64 MB; trusted results; built in" in listed
    assert (
        "tickets__create_ticket(title): leaves, writes; 20 s, 256 MB; untrusted results; the MCP server tickets"
        in listed
    )
    assert main(["tools", "list", "--state", str(state), "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} >= {"run_code", "calculator"}
    assert main(["tools", "run", "calculator", "12 * 7", "--state", str(state)]) == 0
    assert capsys.readouterr().out == "84\n"
    assert main(["tools", "run", "calculator", "12 *", "--state", str(state)]) == 1
    assert main(["tools", "run", "rm", "--state", str(state)]) == 1
    assert "tools run: there is no tool 'rm'; found " in capsys.readouterr().err


def test_check_says_what_is_off_and_approve_accepts_a_change(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "check", "--state", str(state)]) == 0
    assert "ok  run_code: pydantic-monty" in capsys.readouterr().out
    (state / "behavior.json").write_text('{"description": "Another one."}')
    assert main(["tools", "check", "--state", str(state)]) == 1
    assert "off mcp.tickets: tools are not approved: 4 have changed" in capsys.readouterr().out
    assert main(["tools", "approve", "tickets", "--state", str(state)]) == 0
    assert "approved create-ticket: Another one." in capsys.readouterr().out
    assert main(["tools", "check", "--state", str(state)]) == 0
    assert main(["tools", "approve", "gone", "--state", str(state)]) == 1
    assert "there is no MCP server 'gone'; found tickets" in capsys.readouterr().err


@pytest.mark.slow
def test_an_mcp_client_uses_our_tools_on_standard_input(tmp_path: Path) -> None:
    async def use() -> tuple[list[str], str, bool]:
        arguments = ["-m", "service", "tools", "mcp", "--state", str(tmp_path)]
        parameters = StdioServerParameters(command=sys.executable, args=arguments, cwd=str(ROOT))
        async with Client(parameters) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("calculator", {"expression": "12 * 7"})
            wrong = await client.call_tool("calculator", {"expression": 7})
            return names, getattr(result.content[0], "text", ""), wrong.is_error

    names, text, is_error = asyncio.run(use())
    assert names == ["calculate_date", "calculator", "convert_units", "count_text", "spell_text"]
    assert (text, is_error) == ("84", True)
