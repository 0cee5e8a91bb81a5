"""Open what answers: a model in this process, or engines at addresses."""

from __future__ import annotations

from assistant.inference.model_choice import ModelChoice
from service.answers.interfaces import Inference
from service.inference.local_inference import LocalInference
from service.service_settings import ServiceSettings


def open_inference(settings: ServiceSettings, choice: ModelChoice | None) -> Inference:
    """Load the model, ready to answer. Raises: ValueError for a folder that can't be used."""
    if choice is None:
        raise ValueError("settings.upstream: no engine can be used; found no model here either; name a model.")
    return LocalInference.load(choice.folder, weights=settings.weights)
