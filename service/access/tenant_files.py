"""Where the files of a tenant are, each tenant in a folder of its own.

    STATE/tenants/TENANT/collections/NAME/       documents (assistant/knowledge)
    STATE/tenants/TENANT/memories/PERSON.sqlite  remembered sentences of one person
    STATE/tenants/TENANT/learners/PROFILE/PERSON.jsonl    logs of learners
    STATE/tenants/TENANT/handovers/PERSON/       conversations that somebody takes over

A person's name never becomes a file's name as it is: PERSON is its digest. Removing a tenant's folder removes all of it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from service.access.caller import Caller

TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class ProfileFolders(TypedDict):
    """The folders that assistant.profiles.profiled_chat.make_responders takes."""

    log_folder: Path
    handover_folder: Path


def check_tenant(name: str) -> str:
    """Return the name of a tenant. Raises: ValueError for one that can't be a folder's name."""
    if TENANT.fullmatch(name) is None:
        raise ValueError(
            f"tenant: not a name; found {name[:80]!r}; use lower-case letters, digits and '-', at most 63, such as acme."
        )
    return name


@dataclass(frozen=True)
class TenantFiles:
    """The folders below `state`. Nothing is made here: writers make their folders."""

    state: Path

    def get_folder(self, tenant: str) -> Path:
        return self.state / "tenants" / check_tenant(tenant)

    def get_collections_folder(self, tenant: str) -> Path:
        return self.get_folder(tenant) / "collections"

    def get_user_name(self, caller: Caller) -> str:
        """Return a name for the person that is safe in file names, the same each time."""
        return hashlib.sha256(f"{caller.tenant}\0{caller.user}".encode()).hexdigest()[:24]

    def get_memory_file(self, caller: Caller) -> Path:
        return self.get_folder(caller.tenant) / "memories" / f"{self.get_user_name(caller)}.sqlite"

    def get_profile_folders(self, caller: Caller) -> ProfileFolders:
        folder = self.get_folder(caller.tenant)
        return {"log_folder": folder / "learners", "handover_folder": folder / "handovers" / self.get_user_name(caller)}
