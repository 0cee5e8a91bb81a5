"""One answer as the operator's view opens it: how it ended, what it used, and the decisions behind it; no text of a message."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from service.database.database import Database
from service.journal.journal_tables import JOURNAL
from service.page.desk_parts import show_seconds
from service.service_error import ServiceError

FACTS = ("id", "time", "user", "model", "profile", "mode", "version", "reason", "error", "storage", "policy_hash")


def read_detail(database: Database, tenant: str, request_id: str) -> dict[str, Any]:
    """Return the detail of a tenant's answer. Raises: ServiceError 404."""
    query = select(JOURNAL).where(JOURNAL.c.tenant == tenant, JOURNAL.c.id == request_id[:64])
    with database.connect(is_read_only=True) as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        raise ServiceError(404, "request: there is no such request; found none in the journal; list them again.")
    facts = [[name.replace("_", " "), str(row[name]), ""] for name in FACTS if row[name]]
    took = f"{show_seconds(row['seconds'])}, first words after {show_seconds(row['first_token_seconds'])}"
    tokens = f"{row['n_prompt_tokens']} of the prompt, {row['n_tokens']} generated"
    return {
        "title": "Request",
        "rows": [
            *facts,
            ["took", took, ""],
            ["tokens", tokens, ""],
            *([each["action"], ", ".join(each["rules"]), each["reason"]] for each in _load(row["decisions"])),
            *(["tool", each["tool"], each.get("verdict", "")] for each in _load(row["tools"])),
            *(
                ["passage", each["title"], f"{each['document']} · {each['sha256'][:16]}"]
                for each in _load(row["passages"])
            ),
        ],
    }


def _load(column: str) -> list[dict[str, Any]]:
    return json.loads(column) if column else []
