"""python -m service policy check | show: check a folder of policies, and print what counts for a tenant.

Exit codes: 0 all is well, 1 a policy or a row of its table of decisions does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from service.policy.decision_table import check_decisions
from service.policy.policy_files import DEFAULTS, read_policy_files
from service.policy.tenant_policy import TenantPolicy, make_tenant_policy


def add_commands(subparsers: Any) -> None:
    """Add the command policy."""
    parser = subparsers.add_parser("policy", help="check or show policies", description=__doc__)
    commands = parser.add_subparsers(dest="policy_command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="check a folder and run its tables of decisions")
    show = commands.add_parser("show", help="print what counts for a tenant")
    for command in (check, show):
        command.add_argument("folder", nargs="?", type=Path, default=DEFAULTS, help="default: the policies that ship")
    show.add_argument("--tenant", default="", help="default: what counts for everybody")
    show.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(run=_check)
    show.set_defaults(run=_show)


def _check(args: argparse.Namespace) -> int:
    files = read_policy_files(args.folder)
    n_failures = 0
    for tenant in ["", *files.list_tenants()]:
        name = tenant or "everybody"
        try:
            policy = make_tenant_policy(tenant, files.select(tenant))
            n_rows, failures = check_decisions(policy)
        except ValueError as error:
            print(f"{name}: refused: {error}", file=sys.stderr)
            n_failures += 1
            continue
        for failure in failures:
            print(f"{name}: {failure}", file=sys.stderr)
        n_failures += len(failures)
        state = "ok" if not failures else f"{len(failures)} do not hold"
        print(f"{name}: policy {policy.hash}, {len(policy.cedar)} Cedar policies, {n_rows} decisions: {state}")
    return 1 if n_failures else 0


def _show(args: argparse.Namespace) -> int:
    files = read_policy_files(args.folder)
    policy = make_tenant_policy(args.tenant, files.select(args.tenant))
    print(json.dumps(describe_policy(policy), ensure_ascii=False, indent=2) if args.json else _format(policy))
    return 0


def describe_policy(policy: TenantPolicy) -> dict[str, object]:
    """Return a policy as JSON: for operators, and for the page."""
    return {
        "tenant": policy.tenant,
        "hash": policy.hash,
        "cedar": dict(policy.cedar),
        "content": policy.rules.model_dump(mode="json", exclude_none=True),
    }


def _format(policy: TenantPolicy) -> str:
    lines = [f"policy {policy.hash} of {policy.tenant or 'everybody'}", ""]
    lines += [*policy.cedar.values(), ""]
    for name, value in policy.rules.model_dump(mode="json", exclude_none=True).items():
        lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines)
