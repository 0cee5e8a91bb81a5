"""State in /openapi.json what this very service does: the names of its models, and the errors that any operation can end with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI

from service.api.wire.wire_model import ERRORS

ERROR_SCHEMA = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorReply"}}}
FRAMEWORK = ("HTTPValidationError", "ValidationError")  # the shape that our errors do not have
BODY_STATUSES = (408, 413, 415)  # of requests with a body only


def install_openapi(app: FastAPI, list_models: Callable[[], Sequence[str]]) -> None:
    """Complete the application's description. The models are asked for each time, since profiles come and go."""
    describe = app.openapi

    def describe_completely() -> dict[str, Any]:
        described = describe()
        schemas: dict[str, Any] = described.get("components", {}).get("schemas", {})
        for schema in schemas.values():
            field = schema.get("properties", {}).get("model")
            if field is not None and schema.get("additionalProperties") is True:
                _set_enum(field, list(list_models()))
        for name in FRAMEWORK:
            schemas.pop(name, None)
        for operations in described["paths"].values():
            for operation in operations.values():
                _add_errors(operation)
        return described

    app.openapi = describe_completely


def _set_enum(field: dict[str, Any], names: list[str]) -> None:
    for kind in field.get("anyOf", [field]):
        if kind.get("type") == "string":
            kind["enum"] = names


def _add_errors(operation: dict[str, Any]) -> None:
    """Declare the errors that a room has not declared itself. Invalid requests have 400, never the framework's 422."""
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    for status, error in ERRORS.items():
        if "requestBody" in operation or status not in BODY_STATUSES:
            responses.setdefault(str(status), {"description": error["description"], "content": ERROR_SCHEMA})
