"""Removing a tenant removes all of it, whenever it is stopped, and nothing of the others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

import service
from service.access.caller import Caller
from service.access.key_store import KeyGrant, KeyStore
from service.access.tenant_files import TenantFiles
from service.access.tenant_store import TenantStore, list_tenant_tables
from service.database.database import Database
from service.database.metadata import METADATA
from tests.conftest import ROOT
from tests.house.test_layers import imports


def fill(database: Database, files: TenantFiles, tenant: str) -> str:
    """Give a tenant a key, a row in every table and some files; return the key."""
    _, secret = KeyStore(database).add(KeyGrant(tenant, "ann"))
    values: dict[str, Any] = {"UtcTime": datetime.now(UTC), "LargeBinary": b"x", "Boolean": True, "Float": 1.0}
    values |= {"Integer": 1, "BigInteger": 1, "JSON": {}, "String": "x", "Text": "x"}
    with database.connect() as connection:
        for table in list_tenant_tables():
            if table.name != "keys":
                row = {c.name: values[type(c.type).__name__] for c in table.c if c.name != "tenant"}
                connection.execute(insert(table).values(tenant=tenant, **row))
    memory = files.get_memory_file(Caller(tenant, "ann"))
    memory.parent.mkdir(parents=True)
    memory.write_text(f"of {tenant}")
    return secret


@pytest.fixture
def files(tmp_path: Path) -> TenantFiles:
    return TenantFiles(tmp_path / "state")


def test_everything_of_one_tenant_is_removed_and_nothing_of_another(database: Database, files: TenantFiles) -> None:
    tenants, keys = TenantStore(database, files), KeyStore(database)
    secret, other = fill(database, files, "acme"), fill(database, files, "zeta")
    before = tenants.measure("zeta")
    assert min(before.n_rows.values()) == 1
    assert tenants.measure("acme").n_rows == before.n_rows
    removal = tenants.remove("acme")
    assert removal.n_files == 1
    assert keys.find(secret) is None
    assert keys.find(other) is not None
    assert tenants.measure("zeta") == before
    assert [tenant.name for tenant in tenants.list_tenants()] == ["zeta"]
    with pytest.raises(ValueError, match="there is no such tenant; found 'acme'"):
        tenants.measure("acme")
    fill(database, files, "acme")  # the name is free again, and nothing is left
    assert tenants.measure("acme").n_rows == before.n_rows


@pytest.mark.parametrize("step", ["_delete_folder", "delete"])
def test_a_removal_that_was_stopped_is_finished_by_the_same_command(
    database: Database, files: TenantFiles, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    tenants, keys = TenantStore(database, files), KeyStore(database)
    secret = fill(database, files, "acme")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"service.access.tenant_store.{step}", stop)
        with pytest.raises(KeyboardInterrupt):
            tenants.remove("acme")
    assert keys.find(secret) is None  # refused from the first moment on
    assert [tenant.is_being_removed for tenant in tenants.list_tenants()] == [True]
    with pytest.raises(ValueError, match="is being removed"):
        keys.add(KeyGrant("acme"))
    tenants.remove("acme")
    assert tenants.list_tenants() == []
    assert not list((files.state / "tenants").iterdir())


def test_links_in_a_tenants_folder_are_not_followed(database: Database, files: TenantFiles, tmp_path: Path) -> None:
    fill(database, files, "acme")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("stays")
    (files.get_folder("acme") / "collections").symlink_to(tmp_path / "precious")
    TenantStore(database, files).remove("acme")
    assert (tmp_path / "precious" / "file").read_text() == "stays"


def test_files_that_can_not_be_deleted_are_an_error_and_nobody_is_let_in(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    files = TenantFiles(tmp_path / "state")
    secret = fill(database, files, "acme")
    (files.state / "tenants" / ".removed-acme").write_text("a file where the folder is moved to")
    with pytest.raises(ValueError, match=r"its files can't be deleted.*run the command again"):
        TenantStore(database, files).remove("acme")
    assert KeyStore(database).find(secret) is None
    database.close()


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a_b", "-a", "a" * 64, "a\n", "é"])
def test_names_that_are_no_folder_are_refused(database: Database, files: TenantFiles, name: str) -> None:
    for act in (TenantStore(database, files).add, TenantStore(database, files).remove):
        with pytest.raises(ValueError, match="tenant: not a name"):
            act(name)


def test_a_tenant_is_added_once(database: Database, files: TenantFiles) -> None:
    tenants = TenantStore(database, files)
    tenants.add("acme")
    with pytest.raises(ValueError, match="exists already"):
        tenants.add("acme")


def test_every_table_of_the_service_is_known_to_removal() -> None:
    """Tables are defined in modules that opening a database imports, and those of tenants begin with the tenant."""
    root = Path(service.__file__).parent
    for path in root.rglob("*.py"):
        if "sqlalchemy.Table" in imports(path) and "Table(" in path.read_text():
            name = str(path.relative_to(ROOT))
            defines = [line for line in path.read_text().splitlines() if line.rstrip().endswith(" = Table(")]
            assert not defines or name.endswith("_tables.py") or path.name == "metadata.py", name
    for table in METADATA.sorted_tables:
        if "tenant" in table.c:
            assert next(iter(table.primary_key.columns)).name == "tenant", table.name
        else:
            assert table.info.get("survives_tenant"), table.name
