"""All tools of a service come from one file of settings; tenants have their own; what is off is said."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.profiles.profile import Profile
from assistant.tools.toolbox import TOOLS, Tools
from service.access.caller import Caller
from service.service_error import ServiceError
from service.tooling.guarded_tools import ToolUse
from service.tooling.tool_settings import ToolSettings, load_tool_settings
from service.tooling.tooling import Tooling
from tests.service.tooling.test_guarded_tools import AllowAll

TICKETS = Path(__file__).with_name("protocol") / "ticket_server.py"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Tooling]]:
    opened: list[Tooling] = []
    for name in ("shop", "acme"):
        connection = sqlite3.connect(tmp_path / f"{name}.sqlite")
        connection.executescript(f"create table {name}_orders(id)")
        connection.close()

    def open_tooling(text: str) -> Tooling:
        (tmp_path / "tools.yaml").write_text(text, encoding="utf-8")
        opened.append(Tooling(load_tool_settings(tmp_path / "tools.yaml"), tmp_path / "state"))
        return opened[-1]

    yield open_tooling
    for each in opened:
        each.close()


def test_without_settings_there_are_the_trained_tools_and_code() -> None:
    tooling = Tooling(ToolSettings(code="monty"))
    try:
        assert tooling.names == {*TOOLS, "search_docs", "run_code"}
        assert tooling.find_problems() == {}
        assert tooling.list_notices()["tools.run_code"].startswith("pydantic-monty")
    finally:
        tooling.close()


def test_tenants_have_the_shared_tools_and_their_own(make: Callable[..., Tooling]) -> None:
    tooling = make(
        """
code: "off"
databases: {shop: {path: shop.sqlite}}
fetch: {allow: [docs.example.org]}
tenants:
  acme:
    databases: {acme: {path: acme.sqlite}}
    fetch: {allow: [acme.example.org]}
  other: {}
"""
    )
    shared, acme, other = (tooling.get_registry(name) for name in ("local", "acme", "other"))
    assert shared.names == acme.names == other.names
    described = {registry: registry.get("run_sql") for registry in (shared, acme, other)}
    texts = [declaration.description if declaration else "" for declaration in described.values()]
    assert ["acme_orders" in text for text in texts] == [False, True, False]
    assert all("shop_orders" in text for text in texts)
    page = acme.get("fetch_page")
    assert page is not None
    assert page.description.endswith("Pages: acme.example.org, docs.example.org.")
    declaration = shared.get("run_sql")
    assert declaration is not None
    with pytest.raises(ValueError, match=r"run_sql\.database"):
        declaration.call({"query": "select 1", "database": "acme"}, 1.0)


def test_an_answer_gets_the_tools_of_its_profile(make: Callable[..., Tooling]) -> None:
    tooling = make('code: "off"\ndatabases: {shop: {path: shop.sqlite}}\n')
    uses: list[ToolUse] = []
    base = Tools(TOOLS)
    plain = tooling.make_tools(base, Caller(), AllowAll())
    assert plain.names == base.names
    profile = Profile(name="Shop", tools=["run_sql", "calculator"])
    tools = tooling.make_tools(base, Caller(), AllowAll(), profile=profile, profile_name="shop", report=uses.append)
    assert tools.names == ("calculator", "run_sql")
    assert tools.run("run_sql", "select count(*) from shop_orders").text.endswith("(1 row)")
    assert tools.taint.is_tainted
    assert uses[-1].tool == "run_sql"
    again = tooling.make_tools(base, Caller(), AllowAll(), profile=profile, profile_name="shop", previous=tools)
    assert again.taint is tools.taint
    wrong = Profile(name="Shop", tools=["calculator", "gone"])
    with pytest.raises(ServiceError, match=r"profile shop: tools\.1 is no tool; found 'gone'; there are"):
        tooling.make_tools(base, Caller(), AllowAll(), profile=wrong, profile_name="shop")


def test_mcp_servers_of_a_tenant_are_its_own_and_one_that_is_down_is_a_problem(
    make: Callable[..., Tooling], tmp_path: Path
) -> None:
    (tmp_path / "behavior.json").write_text("{}")
    command = json.dumps([sys.executable, str(TICKETS), str(tmp_path / "behavior.json")])
    tooling = make(
        f'code: "off"\ntenants: {{acme: {{mcp: {{tickets: {{command: {command}}}}}}}}}\nmcp: {{gone: {{command: [/nowhere]}}}}\n'
    )
    assert "tickets__create_ticket" in tooling.get_registry("acme").names
    assert "tickets__create_ticket" not in tooling.get_registry("other").names
    assert list(tooling.find_problems()) == ["mcp.gone"]
    caller = Caller(tenant="acme")
    profile = Profile(name="Desk", tools=["tickets__create_ticket"])
    tools = tooling.make_tools(Tools(TOOLS), caller, AllowAll(), profile=profile)
    assert tools.run("tickets__create_ticket", "printer").text == "ticket printer"
    assert tools.run("tickets__create_ticket", "again").decided_by == ("tools:taint",)  # its own result taints


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense: 1\n", r"tools\.nonsense: there is no such setting"),
        ("databases: {shop: {path: gone.sqlite}}\n", r"tools\.databases\.shop\.path: .*gone\.sqlite is no file"),
        ("databases: {Shop!: {path: shop.sqlite}}\n", r"tools\.databases\.Shop!"),
        ("databases: {shop: {path: shop.sqlite, max_rows: 0}}\n", r"tools\.databases\.shop\.max_rows: .*; found 0"),
        ("fetch: {allow: []}\n", r"tools\.fetch\.allow"),
        ("fetch: {allow: ['https://x.org']}\n", r"fetch\.allow has what is no host"),
        ("mcp: {a: {}}\n", r"tools\.mcp\.a: .*needs a command or a url"),
        ("expose: [gone]\n", r"tools\.expose\.0 is no tool; found 'gone'"),
        ("files: nowhere\n", r"is no folder"),
        (
            "databases: {shop: {path: shop.sqlite}}\ntenants: {a: {databases: {shop: {path: shop.sqlite}}}}\n",
            r"tools\.tenants\.a\.databases\.shop exists twice",
        ),
        ("[1", r"is not YAML"),
        ("a: \xff", r"tools\.a"),
        ("x" * 300_000, r"is too large"),
    ],
)
def test_wrong_settings_are_named(make: Callable[..., Tooling], text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--tool-settings: .* can't be read"):
        load_tool_settings(tmp_path / "none.yaml")


def test_files_of_tools_are_named_in_the_settings_or_the_environment(
    make: Callable[..., Tooling], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.py").write_text(
        "from assistant.tools.tool_declaration import tool\n"
        "@tool()\ndef shout(text: str) -> str:\n    'Shout.'\n    return text.upper()\n"
    )
    assert "shout" in make('code: "off"\nfiles: own\n').names
    monkeypatch.setenv("MINIGPT_TOOLS", str(folder))
    tooling = make('code: "off"\n')
    assert tooling.make_exposed_tools(None, Caller(), AllowAll()).names == tuple(sorted(TOOLS))
    exposed: Any = make('code: "off"\nexpose: [shout]\n').make_exposed_tools(None, Caller(), AllowAll())
    assert exposed.call("shout", {"text": "hey"}).text == "HEY"
