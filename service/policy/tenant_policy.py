"""The policy of one tenant, parsed: Cedar policies, content rules, and the hash of the bytes that they come from.

In: the files that count for the tenant. Out: a frozen `TenantPolicy`. A policy that does not parse, does not fit the schema, or has
no or a repeated @id is refused: the id is what `explain` names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import cedarpy
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.events import AliasEvent

from service.policy.content_rules import ContentRules, make_content_rules, merge_rules
from service.policy.policy_files import DEFAULTS, SCHEMA, hash_files

MAX_MESSAGE_CHARS = 300  # of another program's error
# Cedar's parser has a stack without a limit: 1,000 brackets or 5,000 conditions in each other end the process by a segmentation
# fault.
MAX_BRACKETS = 64
MAX_CONDITIONS = 1_000
_TEXT_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*')
_ALIAS = re.compile(r"(?:^|[\s,:\[{-])\*\S", re.MULTILINE)


@dataclass(frozen=True)
class TenantPolicy:
    """What counts for a tenant. `cedar` is the text of its policies by @id; `hash` names the bytes of all but the decisions."""

    tenant: str
    hash: str
    policies: cedarpy.PolicySet
    cedar: Mapping[str, str]
    rules: ContentRules
    decisions: tuple[dict[str, Any], ...]


@cache
def read_schema() -> str:
    """Return the text of the schema that all policies must fit."""
    return (DEFAULTS / SCHEMA).read_text(encoding="utf-8")


@cache
def parse_schema() -> cedarpy.Schema:
    """Return the parsed schema."""
    return cedarpy.Schema.from_str(read_schema())


def make_tenant_policy(tenant: str, texts: Mapping[str, bytes]) -> TenantPolicy:
    """Parse the files of `PolicyFiles.select`. Raises: ValueError that names the file and what is wrong."""
    names = [name for name in sorted(texts, key=lambda name: ("/" in name, name)) if name.endswith(".cedar")]
    if "authorization.cedar" not in names:
        raise ValueError(
            "policies: authorization.cedar is missing, so nothing would be allowed; copy the one that ships."
        )
    cedar: dict[str, str] = {}
    for name in names:
        for policy_id, policy in _split_policies(name, _decode(name, texts[name])).items():
            if policy_id in cedar:
                raise ValueError(
                    f'{name}: @id("{policy_id[:80]}") exists twice; rename one: explain names policies by it.'
                )
            cedar[policy_id] = policy
    values: dict[str, Any] = {}
    content_name = "content.yaml"
    for name in ("content.yaml", f"{tenant}/content.yaml"):
        if name in texts:
            values, content_name = merge_rules(values, _read_mapping(name, texts[name])), name
    rules = make_content_rules(values, content_name)
    rows = [row for name in texts if name.endswith("decisions.yaml") for row in _read_rows(name, texts[name])]
    policies = cedarpy.PolicySet.from_str("\n".join(cedar.values()))
    decisive = {name: text for name, text in texts.items() if not name.endswith("decisions.yaml")}
    return TenantPolicy(tenant, hash_files(decisive), policies, cedar, rules, tuple(rows))


@lru_cache(maxsize=64)  # every tenant has the file for everybody
def _split_policies(name: str, text: str) -> Mapping[str, str]:
    """Return the policies of a Cedar file by @id, checked against the schema."""
    _check_nesting(name, text)
    try:
        policies = json.loads(cedarpy.policies_to_json_str(text))
    except RecursionError as error:  # a long chain of && or ||
        raise ValueError(f"{name}: nested too deeply; found: {error}; write several policies.") from error
    except ValueError as error:
        raise ValueError(f"{name}: not Cedar; found: {_shorten(error)}; correct it (docs/policy.md).") from error
    if policies.get("templates"):
        raise ValueError(f"{name}: has a template (?principal or ?resource); found one; write policies without slots.")
    result = cedarpy.validate_policies(text, read_schema())
    if not result.validation_passed:
        raise ValueError(f"{name}: does not fit the schema; found: {_shorten(result.errors[0])}; see {SCHEMA}.")
    by_id: dict[str, str] = {}
    for number, policy in enumerate(policies["staticPolicies"].values(), 1):
        policy_id = policy.get("annotations", {}).get("id")
        if not policy_id:
            raise ValueError(f'{name}: policy {number} has no @id; found none; write @id("name") before it.')
        if policy_id in by_id:
            raise ValueError(f'{name}: @id("{policy_id[:80]}") exists twice; rename one: explain names policies by it.')
        single = {"templates": {}, "staticPolicies": {"policy0": policy}, "templateLinks": []}
        try:
            formatted = cedarpy.format_policies(cedarpy.policies_from_json_str(json.dumps(single)), 120, 2)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f'{name}: @id("{policy_id[:80]}") is too deep; found: {_shorten(error)}; write several policies.'
            ) from error
        by_id[policy_id] = formatted.strip()
    return by_id


def _check_nesting(name: str, text: str) -> None:
    """Refuse a Cedar file that its parser would not survive. Raises: ValueError."""
    code = _TEXT_OR_COMMENT.sub(" ", text)
    depth = deepest = 0
    for bracket in re.findall(r"[(\[{)\]}]", code):
        depth += 1 if bracket in "([{" else -1
        deepest = max(deepest, depth)
    n_conditions = len(re.findall(r"\bif\b", code))
    if deepest > MAX_BRACKETS or n_conditions > MAX_CONDITIONS:
        raise ValueError(
            f"{name}: nested too deeply; found {deepest:,} brackets in each other and {n_conditions:,} conditions; at most "
            f"{MAX_BRACKETS} and {MAX_CONDITIONS:,} fit: write several policies."
        )


def _decode(name: str, text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}: not UTF-8; found the byte {text[error.start]:#04x} at {error.start}; save it as UTF-8."
        ) from error


@lru_cache(maxsize=64)
def _load_yaml(name: str, text: bytes) -> Any:
    """Return the content of a file, which nobody may change. Aliases are refused: written out, a kilobyte of them is a terabyte."""
    decoded = _decode(name, text)
    try:
        if _ALIAS.search(decoded) and any(
            isinstance(event, AliasEvent) for event in YAML(typ="safe", pure=True).parse(decoded)
        ):
            raise ValueError(f"{name}: has an alias; found * before a name; write the value itself, or quote the text.")
        return YAML(typ="safe", pure=True).load(decoded)
    except (YAMLError, RecursionError) as error:
        raise ValueError(f"{name}: not YAML; found: {_shorten(error)}; correct it.") from error


def _read_mapping(name: str, text: bytes) -> dict[str, Any]:
    values = _load_yaml(name, text)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ValueError(f"{name}: must have settings by name; found a {type(values).__name__}; see docs/policy.md.")
    return values


def _read_rows(name: str, text: bytes) -> list[dict[str, Any]]:
    rows = _load_yaml(name, text)
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{name}: must be a list of decisions; found a {type(rows).__name__}; see docs/policy.md.")
    return [{**row, "file": f"{name}:{number}"} for number, row in enumerate(rows, 1)]


def _shorten(error: object) -> str:
    return " ".join(str(error).split())[:MAX_MESSAGE_CHARS]
