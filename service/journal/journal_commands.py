"""python -m service explain | why | erase | audit: ask what happened, forget a person, verify that nothing was changed.

    explain REQUEST_ID     which rules decided about a request, with scores and thresholds
    why ANSWER_ID          the documents, decisions and data behind an answer
    erase --user USER      delete everything that a person wrote or was answered
    audit verify           check the audit log; also: audit export, audit head

For whoever may read the service's state folder or database. Exit codes: 0 success, 1 user error or a manipulated log, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from service.access.caller import LOCAL_TENANT
from service.access.key_commands import add_database_flags, open_database
from service.access.tenant_files import TenantFiles
from service.clock import now
from service.journal.answer_trail import explain_answer, find_answer, format_explanation, format_trail, trace_answer
from service.journal.audit_chain import ChainHead, ChainReport
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog, export_audit, verify_audit, verify_export
from service.journal.erasing import Erasure, erase_person, measure_person
from service.journal.journal_tables import AUDIT

_HEAD = re.compile(r"(?P<tenant>[a-z0-9-]+)=(?P<seq>\d{1,15}):(?P<hash>[0-9a-f]{64})")


def add_commands(subparsers: Any) -> None:
    """Add the commands."""
    explain = subparsers.add_parser("explain", help="which rules decided about a request")
    why = subparsers.add_parser("why", help="documents, decisions and data behind an answer")
    for command, run in ((explain, _explain), (why, _why)):
        command.add_argument("id", help="of the request or the answer: req_…, ans_…, chatcmpl-…, resp_…")
        command.add_argument("--json", action="store_true", help="as JSON")
        command.set_defaults(run=run)
    erase = subparsers.add_parser("erase", help="delete everything of a person")
    erase.add_argument("--user", required=True, help="as in `keys list`; also who was named behind it (USER:…)")
    erase.add_argument("--tenant", default=LOCAL_TENANT, help="default: %(default)s")
    erase.add_argument("--revoke-keys", action="store_true", help="also revoke the person's keys")
    erase.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    erase.set_defaults(run=_erase)
    audit = subparsers.add_parser("audit", help="verify, export, or print the head of the audit log")
    actions = audit.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="check every row; exit code 1 if any was changed")
    verify.add_argument("--export", type=Path, metavar="FILE", help="check an exported file instead of the database")
    verify.add_argument(
        "--head", action="append", default=[], metavar="TENANT=SEQ:HASH", help="a head that was kept elsewhere"
    )
    verify.set_defaults(run=_verify)
    export = actions.add_parser("export", help="print the rows as lines of JSON")
    export.add_argument("--tenant", help="default: all")
    export.set_defaults(run=_export)
    head = actions.add_parser("head", help="print the heads, to keep them elsewhere")
    head.set_defaults(run=_head)
    for command in (explain, why, erase, verify, export, head):
        add_database_flags(command)


def _explain(args: argparse.Namespace) -> int:
    with open_database(args) as database, database.connect(is_read_only=True) as connection:
        row = find_answer(connection, args.id)
        explained = explain_answer(connection, row)
    value = {
        "id": row["id"],
        "time": row["time"],
        "outcome": row["reason"],
        "error": row["error"],
        "decisions": explained,
    }
    print(json.dumps(value, ensure_ascii=False, indent=2) if args.json else format_explanation(row, explained))
    return 0


def _why(args: argparse.Namespace) -> int:
    with open_database(args) as database, database.connect(is_read_only=True) as connection:
        trail = trace_answer(find_answer(connection, args.id))
    print(json.dumps(trail, ensure_ascii=False, indent=2) if args.json else format_trail(trail))
    return 0


def _erase(args: argparse.Namespace) -> int:
    files = TenantFiles(args.state)
    with open_database(args) as database:
        if args.dry_run:
            print(
                _describe(measure_person(database, files, args.tenant, args.user), "would be deleted", args.revoke_keys)
            )
            return 0
        log = AuditLog(database, AuditHeads(args.state / "audit"))
        erasure = erase_person(log, files, args.tenant, args.user, now(), revokes_keys=args.revoke_keys)
        print(_describe(erasure, "deleted and overwritten", args.revoke_keys))
        if not database.is_sqlite:
            print(
                "PostgreSQL: the tables were rewritten (VACUUM FULL); its write-ahead log keeps copies until it is recycled"
            )
    print("not covered: backups, and copies that were sent elsewhere (traces, exports, versions that were trained)")
    return 0


def _describe(erasure: Erasure, done: str, revokes_keys: bool) -> str:
    rows = ", ".join(f"{n} of {name}" for name, n in erasure.n_rows.items() if n) or "none"
    keys = "revoked" if revokes_keys else "kept"
    return f"{done}: rows: {rows}; files: {len(erasure.files)}; keys ({keys}): {erasure.n_keys}"


def _verify(args: argparse.Namespace) -> int:
    anchors = dict(map(_parse_head, args.head))
    if args.export is not None:
        try:
            with args.export.open(encoding="utf-8") as file:
                reports = verify_export(file, anchors)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"--export: {args.export} can't be read; found {str(error)[:80]}; name an export."
            ) from error
    else:
        with open_database(args) as database:
            reports = verify_audit(database, AuditHeads(args.state / "audit"), anchors)
    return _print_reports(reports)


def _print_reports(reports: Iterable[ChainReport]) -> int:
    is_whole = True
    for report in reports:
        is_whole &= not report.problems
        print(
            f"{report.tenant}: {report.n_rows:,} rows, head {report.head}: {'ok' if not report.problems else 'CHANGED'}"
        )
        for problem in report.problems:
            print(f"  {problem}", file=sys.stderr)
    return 0 if is_whole else 1


def _export(args: argparse.Namespace) -> int:
    with open_database(args) as database:
        with database.connect(is_read_only=True) as connection:
            tenants = sorted(connection.scalars(select(AUDIT.c.tenant).distinct()))
        sys.stdout.writelines(export_audit(database, [args.tenant] if args.tenant else tenants))
    return 0


def _head(args: argparse.Namespace) -> int:
    heads = AuditHeads(args.state / "audit")
    for tenant in heads.list_tenants():
        anchor = heads.read(tenant)
        if anchor is None:
            raise ValueError(
                f"audit: the head of {tenant} is damaged; found no hash in {heads.folder}; run audit verify."
            )
        print(f"{tenant}={anchor.head}")
    return 0


def _parse_head(text: str) -> tuple[str, ChainHead]:
    match = _HEAD.fullmatch(text)
    if match is None:
        raise ValueError(
            f"--head: must be TENANT=SEQ:HASH, as `audit head` prints it; found {text[:80]!r}; correct it."
        )
    return match["tenant"], ChainHead(int(match["seq"]), bytes.fromhex(match["hash"]))
