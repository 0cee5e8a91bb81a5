"""The parts of a running service: what the command puts together and the routes use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.answers.answering import Answering
from service.answers.assistants import Assistants
from service.answers.interfaces import Inference
from service.service_settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import APIRouter


@dataclass(frozen=True)
class Service:
    """One service. `routers` are those of all rooms; `extras` are parts that only their own room's routes know, by name."""

    settings: ServiceSettings
    inference: Inference
    assistants: Assistants
    answering: Answering
    routers: tuple[APIRouter, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict[str, Any])
    closers: tuple[Callable[[], Awaitable[None]], ...] = ()  # called when the server stops
