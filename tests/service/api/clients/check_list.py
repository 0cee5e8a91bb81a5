"""The list of checks: which client, which feature, and the function that raises where the client is disappointed."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

FEATURES = {  # in the order of the table
    "chat": "answers, roles, several turns, content parts",
    "stream": "streams, with usage, closed early",
    "choices": "`n` choices",
    "sampling": "max tokens, temperature, top_p, seed, stop",
    "tokens": "log-probabilities, logit bias, penalties",
    "json": "`response_format`: JSON object and schema",
    "tools": "tools: auto, none, required, named; rounds",
    "completions": "text completions",
    "responses": "responses, continued and retrieved",
    "embeddings": "embeddings, float and base64",
    "rerank": "rerank",
    "models": "models and profiles",
    "errors": "errors by type",
    "headers": "raw responses, headers, unknown fields",
}


@dataclass(frozen=True)
class Target:
    """The server to check: `url` ends with /v1."""

    url: str
    model: str
    key: str = "mg-none"


Run = Callable[[Target], None]


@dataclass(frozen=True)
class Check:
    """One call of a client, or a few that belong together."""

    client: str
    feature: str
    name: str
    run: Run


CHECKS: list[Check] = []


def check(client: str, feature: str) -> Callable[[Run], Run]:
    """Put a function into the list."""
    assert feature in FEATURES

    def add(run: Run) -> Run:
        CHECKS.append(Check(client, feature, run.__name__, run))
        return run

    return add


def run_checks(client: str, target: Target) -> dict[str, str]:
    """Run a client's checks. Return name → what failed, empty for nothing."""
    results: dict[str, str] = {}
    for one in CHECKS:
        if one.client == client:
            try:
                one.run(target)
                results[one.name] = ""
            except Exception:
                results[one.name] = traceback.format_exc(limit=-3)
    return results
