"""python -m service keys add | list | revoke | rotate: the keys of callers.

A key is printed once, when it is made, alone on standard output, so that it can be sent to a file; everything else goes to standard
error. Only its hash is stored.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from service.access.caller import LOCAL_TENANT
from service.access.key_store import ROLES, SCOPES, KeyGrant, KeyStore, StoredKey
from service.access.quota import Quota
from service.clock import now
from service.database.database import Database, choose_url
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditEvent, AuditLog
from service.journal.journal_entry import JournalEntry
from service.journal.journal_writer import write_entries

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent")


def add_commands(subparsers: Any) -> None:
    """Add the command keys."""
    parser = subparsers.add_parser("keys", help="add, list, revoke and rotate keys", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key and print it, once")
    add.add_argument("--tenant", default=LOCAL_TENANT, help="whose key it is (default: %(default)s)")
    add.add_argument("--user", default="admin", help="the person or program behind it (default: %(default)s)")
    add.add_argument("--role", default="user", choices=ROLES, help="what it may do (default: %(default)s)")
    add.add_argument(
        "--scopes", default="", help=f"only for these, by commas: {', '.join(SCOPES)} (default: the role's)"
    )
    add.add_argument("--expires-in", metavar="TIME", help="such as 12h, 90d, 1y (default: it does not expire)")
    for name in _LIMITS:
        add.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help="limit (default: none)")
    add.set_defaults(run=add_key)
    listing = actions.add_parser("list", help="list keys, without secrets")
    listing.add_argument("--tenant", help="of one tenant (default: of all)")
    listing.set_defaults(run=list_all_keys)
    for name, run, about in (
        ("revoke", revoke_key, "refuse a key from now on"),
        ("rotate", rotate_key, "make a new key that may do the same, and print it"),
    ):
        action = actions.add_parser(name, help=about)
        action.add_argument("id", help="such as key_0123456789abcdef (`keys list`)")
        action.add_argument("--tenant", default=LOCAL_TENANT, help="whose key it is (default: %(default)s)")
        if name == "rotate":
            action.add_argument(
                "--grace", default="", metavar="TIME", help="how long the old one is still valid (default: not at all)"
            )
        action.set_defaults(run=run)
    for action in actions.choices.values():
        add_database_flags(action)


def add_database_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name the database, as `serve` has them."""
    parser.add_argument("--state", type=Path, default=Path("var/service"), help="state folder (default: %(default)s)")
    parser.add_argument(
        "--database", default="", help="URL (default: MINIGPT_DATABASE, else SQLite in the state folder)"
    )


@contextmanager
def open_database(args: argparse.Namespace) -> Generator[Database]:
    """Yield the database that the flags name."""
    database = Database.open(choose_url(args.state, args.database))
    try:
        yield database
    finally:
        database.close()


def record_command(
    database: Database, state: Path, tenant: str, what: str, subject: str, about: str = "", **details: Any
) -> None:
    """Put what a command did into the audit log of a tenant. Raises: ServiceError 503 if the database fails."""
    event = AuditEvent(tenant, what, about=about, subject=subject, details=details | {"by": "command line"})
    write_entries(AuditLog(database, AuditHeads(state / "audit")), [JournalEntry(now(), (event,))], now())


def parse_duration(text: str) -> timedelta:
    """Return a duration such as 90d. Raises: ValueError."""
    match = re.fullmatch(r"([0-9]{1,6})([mhdwy])", text)
    if match is None or not int(match[1]) or int(match[1]) * _SECONDS[match[2]] > 100 * _SECONDS["y"]:
        raise ValueError(f"time: must be a number with m, h, d, w or y, at most 100y; found {text[:80]!r}; write 90d.")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def add_key(args: argparse.Namespace) -> int:
    """Make a key and print it."""
    limits = {name: getattr(args, name) for name in _LIMITS}
    expires = now() + parse_duration(args.expires_in) if args.expires_in else None
    scopes = tuple(scope.strip() for scope in args.scopes.split(",") if scope.strip())
    grant = KeyGrant(args.tenant, args.user, args.role, scopes, expires, Quota.from_json(limits))
    with open_database(args) as database:
        key, secret = KeyStore(database).add(grant)
        _record(database, args, "key.added", key)
    _print_secret(key, secret)
    return 0


def list_all_keys(args: argparse.Namespace) -> int:
    """Print a line per key."""
    with open_database(args) as database:
        keys = KeyStore(database).list_keys(args.tenant)
    time = now()
    print("id\ttenant\tuser\trole\tstate\tcreated\texpires\tlast use\tscopes\tlimits")
    for key in keys:
        grant, limits = key.grant, key.grant.quota.to_json()
        times = [f"{each:%Y-%m-%d %H:%M}" if each else "-" for each in (key.created, grant.expires, key.used)]
        about = [",".join(grant.scopes), ",".join(f"{name}={value}" for name, value in limits.items()) or "-"]
        print("\t".join([key.id, grant.tenant, grant.user, grant.role, key.get_state(time), *times, *about]))
    return 0


def revoke_key(args: argparse.Namespace) -> int:
    """Revoke a key."""
    with open_database(args) as database:
        key = KeyStore(database).revoke(args.tenant, args.id)
        _record(database, args, "key.revoked", key)
    print(f"{key.id} of {key.grant.user} ({key.grant.tenant}) is refused from now on")
    return 0


def rotate_key(args: argparse.Namespace) -> int:
    """Make a key in place of another one, and print it."""
    grace = parse_duration(args.grace) if args.grace else timedelta()
    with open_database(args) as database:
        key, secret = KeyStore(database).rotate(args.tenant, args.id, grace)
        _record(database, args, "key.rotated", key, replaces=args.id)
    _print_secret(key, secret)
    until = f"until {now() + grace:%Y-%m-%d %H:%M} UTC at the latest" if grace else "no longer"
    print(f"{args.id} is valid {until}", file=sys.stderr)
    return 0


def _record(database: Database, args: argparse.Namespace, what: str, key: StoredKey, **details: Any) -> None:
    grant = key.grant
    about = {"role": grant.role, "scopes": list(grant.scopes)} | details
    record_command(database, args.state, grant.tenant, what, key.id, grant.user, **about)


def _print_secret(key: StoredKey, secret: str) -> None:
    grant = key.grant
    about = f"{key.id}: role {grant.role}, user {grant.user}, tenant {grant.tenant}; scopes {', '.join(grant.scopes)}"
    print(f"{about}. The key is shown this once; store it now:", file=sys.stderr, flush=True)
    print(secret, flush=True)
