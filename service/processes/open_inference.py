"""Open what answers: a model in this process, or engines at addresses."""

from __future__ import annotations

import os

from assistant.inference.model_choice import ModelChoice
from assistant.inference.served_model import ServingSizes
from service.answers.interfaces import Inference
from service.inference.local_inference import LocalInference
from service.service_settings import ServiceSettings


def open_inference(settings: ServiceSettings, choice: ModelChoice | None) -> Inference:
    """Return the model, ready to answer. Raises: ValueError for a folder that can't be used, or engines that do not answer."""
    if settings.upstream:
        from service.inference.remote_inference import RemoteInference

        return RemoteInference.connect(settings.upstream, api_key=os.environ.get("MINIGPT_UPSTREAM_KEY", ""))
    if choice is None:
        raise ValueError("--model is missing; found neither a model nor the setting upstream; name one of them.")
    return open_local_inference(settings, choice)


def open_local_inference(settings: ServiceSettings, choice: ModelChoice) -> LocalInference:
    """Load the model into this process. Raises: ValueError for a folder that can't be used."""
    return LocalInference.load(
        choice.folder,
        weights=settings.weights,
        sizes=ServingSizes(n_slots=settings.slots, n_waiting=settings.queue),
        deadline_seconds=settings.deadline_seconds,
    )
