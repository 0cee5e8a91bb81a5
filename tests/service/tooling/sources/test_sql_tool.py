"""A query reads what the operator named, within limits, whatever it says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.tooling.sources.sql_tool import DatabaseSetting, SqlTool


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("databases") / "shop #1?.sqlite"  # signs that mean something in a URI
    connection = sqlite3.connect(path)
    connection.executescript(
        """create table orders(id integer primary key, name text, total real);
        create table secrets(k text);
        insert into secrets values ('hunter2');
        create view names as select name from orders;
        create view masked as select length(k) as n from secrets;
        create view leak as select k from secrets;"""
    )
    rows = [(f"n{number}", number * 1.5) for number in range(300)]
    connection.executemany("insert into orders(name, total) values (?, ?)", rows)
    connection.commit()
    connection.close()
    return path


@pytest.fixture(scope="module")
def tool(shop: Path) -> Iterator[SqlTool]:
    opened = SqlTool(
        {
            "shop": DatabaseSetting(path=shop, tables=["orders", "names", "masked"], max_rows=5, max_seconds=0.5),
            "all": DatabaseSetting(path=shop),
        }
    )
    yield opened
    opened.close()


def ask(tool: SqlTool, query: str) -> str:
    return tool.declaration.call_with_text(query)


def test_rows_come_as_text_with_their_number(tool: SqlTool) -> None:
    assert ask(tool, "select count(*) as n, sum(total) from orders") == "n | sum(total)\n300 | 67275.0\n(1 row)"
    assert ask(tool, "select id from orders") == "id\n1\n2\n3\n4\n5\n(the first 5 rows; there are more)"
    assert ask(tool, "select id from orders limit 0") == "id\n(0 rows)"
    assert ask(tool, "values (null, x'00ff', 'a|b' || char(10) || 'c')").splitlines()[1] == "NULL | (2 bytes) | a¦b ⏎ c"
    assert ask(tool, "select * from names limit 1") == "name\nn0\n(1 row)"
    assert ask(tool, "select n from masked") == "n\n7\n(1 row)"
    assert ask(tool, '{"query": "select k from secrets", "database": "all"}') == "k\nhunter2\n(1 row)"


def test_a_long_table_is_cut_and_says_so(tool: SqlTool) -> None:
    wide = "with recursive r(i) as (select 1 union all select i + 1 from r limit 99) select i, replace(hex(i), '3', '{}') from r"
    text = ask(tool, '{"database": "all", "query": "' + wide.format("x" * 150) + '"}')
    assert len(text) < 8_000
    assert text.endswith("rows; there are more)")


FORBIDDEN = [
    "insert into orders values (1, 'x', 1)", "update orders set total = 0", "delete from orders", "drop table orders",
    "create table x(a)", "create temp table x(a)", "create view x as select 1", "attach ':memory:' as x", "detach main",
    "pragma table_info(orders)", "pragma query_only = off", "begin", "vacuum into 'copy.sqlite'", "analyze", "reindex",
    "select load_extension('x')", "select fts3_tokenizer('x')", "select readfile('/etc/passwd')", "select randomblob(9)",
    "select * from secrets", "select count(*) from secrets", "select count(*) from SECRETS as orders", "select k from leak",
    "select 1 where exists (select 1 from secrets)", "select * from orders union select k, 1, 1 from secrets",
    "select * from (select k as name from secrets) as names", "with names as (select k from secrets) select * from names",
    "WITH orders AS (SELECT k FROM main.secrets) SELECT * FROM orders", "select count(*) from leak as names",
    "with recursive masked(i) as (select k from secrets) select i from masked", "select rowid from secrets as names",
    "select * from sqlite_schema", "select * from pragma_table_info('secrets')", "select * from sqlite_dbpage",
    "select 1; select 2", "selec", "", "select '\0'", "-- nothing",
]  # fmt: skip


@pytest.mark.parametrize("query", FORBIDDEN)
def test_everything_but_select_on_the_named_tables_is_refused(tool: SqlTool, shop: Path, query: str) -> None:
    before = shop.read_bytes()
    with pytest.raises(ValueError, match=r"^the (query|statement) .+; .+"):
        ask(tool, query)
    assert shop.read_bytes() == before
    assert [path.name for path in shop.parent.iterdir()] == [shop.name]


@pytest.mark.parametrize(
    "query",
    [
        "with recursive r(i) as (select 1 union all select i + 1 from r) select count(*) from r",
        "with recursive r(i) as (select 1 union all select i + 1 from r) select i, hex(i) from r order by 2",
        "select count(*) from orders a, orders b, orders c, orders d",
    ],
)
def test_an_endless_query_is_stopped_and_the_next_one_runs(tool: SqlTool, query: str) -> None:
    with pytest.raises(ValueError, match=r"the query takes longer than 0\.5 seconds; ask for less"):
        ask(tool, query)
    assert ask(tool, "select 1") == "1\n1\n(1 row)"


def test_what_the_file_does_not_stop_is_killed(tool: SqlTool) -> None:
    with pytest.raises(ValueError, match=r"^(run_sql took longer than|the query)"):
        ask(tool, "select printf('%.*c', 1000000000, 'x')")
    assert ask(tool, "select 1") == "1\n1\n(1 row)"


def test_the_declaration_names_the_tables_and_only_those(tool: SqlTool) -> None:
    declaration = tool.declaration
    assert "Tables of shop: masked(n), names(name), orders(id, name, total)." in declaration.description
    assert declaration.effects == {"reads"}
    assert not declaration.is_trusted
    with pytest.raises(ValueError, match=r"run_sql\.database: Input should be 'shop' or 'all'; found 'x'"):
        declaration.call({"query": "select 1", "database": "x"}, 1.0)


def test_wrong_settings_are_named(tmp_path: Path, shop: Path) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database" * 100)
    for setting, message in [
        (DatabaseSetting(path=tmp_path / "none"), r"tools\.databases\.x\.path: .* is no file"),
        (
            DatabaseSetting(path=broken),
            r"tools\.databases\.x: broken\.sqlite can't be read; found file is not a database",
        ),
        (DatabaseSetting(path=shop, tables=["gone"]), r"tools\.databases\.x: .* has no table 'gone'; found"),
    ]:
        with pytest.raises(ValueError, match=message):
            SqlTool({"x": setting})
