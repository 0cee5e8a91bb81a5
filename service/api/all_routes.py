"""All routes of the API."""

from __future__ import annotations

from fastapi import APIRouter

from service.api import answer_routes, response_routes, text_routes


def make_routers() -> tuple[APIRouter, ...]:
    """Return the routers of the API."""
    return (answer_routes.make_router(), response_routes.make_router(), text_routes.make_router())
