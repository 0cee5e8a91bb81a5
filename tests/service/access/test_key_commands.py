"""The commands `keys` and `tenants`, as a person types them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.__main__ import main
from service.access.key_commands import parse_duration
from service.access.key_store import SECRET


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINIGPT_DATABASE", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(list(words)) == code
    output = capsys.readouterr()
    return output.out, output.err


def test_a_key_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    out, err = run(capsys, "keys", "add", "--role", "admin", "--expires-in", "90d", "--requests-per-minute", "60")
    assert SECRET.fullmatch(out.strip())
    [key_id] = re.findall(r"key_[0-9a-f]{16}", err)
    listed, _ = run(capsys, "keys", "list")
    assert key_id in listed
    assert "requests_per_minute=60" in listed
    assert out.strip() not in listed
    assert (workspace / "var" / "service" / "service.sqlite").stat().st_mode & 0o777 == 0o600
    new, about = run(capsys, "keys", "rotate", key_id, "--grace", "1h")
    assert SECRET.fullmatch(new.strip())
    assert f"{key_id} is valid until" in about
    assert "is refused from now on" in run(capsys, "keys", "revoke", key_id)[0]
    assert [line.split("\t")[4] for line in run(capsys, "keys", "list")[0].splitlines()[1:]] in (
        ["revoked", "active"],
        ["active", "revoked"],
    )


def test_tenants_are_added_listed_and_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "tenants", "add", "acme")
    run(capsys, "keys", "add", "--tenant", "acme")
    assert "acme" in run(capsys, "tenants", "list")[0]
    dry, _ = run(capsys, "tenants", "remove", "acme", "--dry-run")
    assert re.match(r"acme: .*1 rows of keys.*; 0 files, 0 bytes", dry)
    assert "nothing is deleted (--dry-run)" in dry
    monkeypatch.setattr("builtins.input", lambda _: "acmee")
    assert "nothing is deleted" in run(capsys, "tenants", "remove", "acme", code=1)[0]
    monkeypatch.setattr("builtins.input", lambda _: "acme")
    assert "are deleted" in run(capsys, "tenants", "remove", "acme")[0]
    verified, _ = run(
        capsys, "audit", "verify"
    )  # both were recorded: the tenant's key, and in the whole service's log its removal
    assert re.findall(r"^(\w+): (\d) rows, .*: ok$", verified, re.MULTILINE) == [("acme", "1"), ("local", "2")]
    assert "acme" not in run(capsys, "tenants", "list")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["keys", "add", "--tenant", "ACME"], "tenant: not a name; found 'ACME'"),
        (["keys", "add", "--scopes", "chat,fly"], "scopes: must be of .* found 'fly'"),
        (["keys", "add", "--expires-in", "soon"], "time: must be a number with m, h, d, w or y"),
        (["keys", "add", "--concurrent", "-1"], "limits.concurrent: must be null or an integer"),
        (["keys", "revoke", "key_0"], "key: there is no such key; found 'key_0'"),
        (["tenants", "remove", "acme", "--yes"], "tenant: there is no such tenant; found 'acme'"),
        (["keys", "list", "--database", "mysql://a:hunter2@b/c"], "database: must be sqlite"),
    ],
)
def test_errors_have_three_parts_and_no_traceback(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    _, err = run(capsys, *words, code=1)
    assert re.match(f"error: {message}", err)
    assert "hunter2" not in err
    assert err.count(";") >= 2


def test_the_database_is_named_by_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workspace: Path
) -> None:
    monkeypatch.setenv("MINIGPT_DATABASE", f"sqlite:///{workspace / 'elsewhere.sqlite'}")
    run(capsys, "tenants", "add", "acme")
    assert (workspace / "elsewhere.sqlite").exists()
    assert not list(workspace.rglob("service.sqlite"))


@pytest.mark.parametrize(("text", "seconds"), [("1m", 60), ("12h", 43_200), ("90d", 7_776_000), ("1y", 31_536_000)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "0d", "1", "d", "-1d", "1.5h", "101y", "9999999d", "1 d"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="time: must be"):
        parse_duration(text)
