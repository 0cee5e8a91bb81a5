"""State in /openapi.json what this very service serves: the names of its models, as an enumeration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI


def install_openapi(app: FastAPI, list_models: Callable[[], Sequence[str]]) -> None:
    """Make the application's description name the models. They are asked for each time, since profiles come and go."""
    describe = app.openapi

    def describe_with_models() -> dict[str, Any]:
        described = describe()
        for schema in described.get("components", {}).get("schemas", {}).values():
            field = schema.get("properties", {}).get("model")
            if field is not None and schema.get("additionalProperties") is True:
                _set_enum(field, list(list_models()))
        return described

    app.openapi = describe_with_models


def _set_enum(field: dict[str, Any], names: list[str]) -> None:
    for kind in field.get("anyOf", [field]):
        if kind.get("type") == "string":
            kind["enum"] = names
