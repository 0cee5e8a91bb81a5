"""python -m service tenants add | list | remove: those whose data is kept apart."""

from __future__ import annotations

import argparse
from typing import Any

from service.access.caller import LOCAL_TENANT
from service.access.key_commands import add_database_flags, open_database, record_command
from service.access.tenant_files import TenantFiles
from service.access.tenant_store import Removal, TenantStore


def add_commands(subparsers: Any) -> None:
    """Add the command tenants."""
    parser = subparsers.add_parser("tenants", help="add, list and remove tenants", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list tenants")
    listing.set_defaults(run=list_all_tenants)
    add = actions.add_parser("add", help="make a tenant (`keys add --tenant NAME` does it too)")
    add.add_argument("name", help="lower-case letters, digits and '-'")
    add.set_defaults(run=add_tenant)
    remove = actions.add_parser("remove", help="delete a tenant and everything that is theirs")
    remove.add_argument("name", help="name (`tenants list`)")
    remove.add_argument("--dry-run", action="store_true", help="only list what would be deleted")
    remove.add_argument("--yes", action="store_true", help="delete without asking for the name")
    remove.set_defaults(run=remove_tenant)
    for action in actions.choices.values():
        add_database_flags(action)


def add_tenant(args: argparse.Namespace) -> int:
    """Make a tenant."""
    with open_database(args) as database:
        TenantStore(database, TenantFiles(args.state)).add(args.name)
        record_command(database, args.state, LOCAL_TENANT, "tenant.added", args.name)
    print(f"{args.name} is added; next: python -m service keys add --tenant {args.name} --role admin")
    return 0


def list_all_tenants(args: argparse.Namespace) -> int:
    """Print a line per tenant."""
    with open_database(args) as database:
        tenants = TenantStore(database, TenantFiles(args.state)).list_tenants()
    print("tenant\tcreated\tkeys\tstate")
    for tenant in tenants:
        state = "being removed" if tenant.is_being_removed else "active"
        print(f"{tenant.name}\t{tenant.created:%Y-%m-%d %H:%M}\t{tenant.n_keys}\t{state}")
    return 0


def remove_tenant(args: argparse.Namespace) -> int:
    """Delete a tenant, or list what would be deleted."""
    with open_database(args) as database:
        store = TenantStore(database, TenantFiles(args.state))
        removal = store.measure(args.name)
        print(_describe(removal))
        if args.dry_run:
            print("nothing is deleted (--dry-run)")
            return 0
        if not args.yes and not _is_confirmed(args.name):
            print("nothing is deleted: the name was not repeated")
            return 1
        store.remove(args.name)
        record_command(database, args.state, LOCAL_TENANT, "tenant.removed", args.name)
    print(f"{args.name} and everything of it are deleted; backups are not")
    return 0


def _is_confirmed(name: str) -> bool:
    try:
        return input(f"type {name} to delete it: ").strip() == name
    except EOFError:
        return False


def _describe(removal: Removal) -> str:
    rows = ", ".join(f"{n} rows of {table}" for table, n in removal.n_rows.items() if n and table != "tenants")
    return f"{removal.tenant}: {rows or 'no rows'}; {removal.n_files} files, {removal.n_bytes:,} bytes"
