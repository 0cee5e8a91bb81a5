"""What a version has besides its model: the index, vectors, the guard. They are swapped with it, on promotion and rollback.

In: the folder of a model, `VERSION/model`, beside which `index`, `embed` and `guard` may be. Out: a `ModelChoice` and the
loaded parts. What is missing is a note for the operator, never a silent difference.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.guard.harm_guard import Guard
from assistant.inference.model_choice import ModelChoice, choose_model
from assistant.tools.toolbox import make_tools
from service.answers.assistants import Assistants
from service.answers.interfaces import ModelDescription
from service.api.text_vectors import TextVectors
from service.inference.local_inference import ChampionWatch, LocalInference
from service.policy.content_checker import ContentChecker

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionParts:
    """The parts of one version. `notes` say what it lacks."""

    choice: ModelChoice | None
    guard: Guard | None
    vectors: TextVectors | None
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, choice: ModelChoice | None) -> VersionParts:
        """Load the parts beside a model. Raises: ValueError for one that is damaged or belongs to another index."""
        notes: list[str] = []
        folder = choice.folder.parent / "guard" if choice is not None else None
        guard = Guard.load(folder) if folder is not None and folder.is_dir() else None
        if guard is None:
            where = folder or "the engine"
            notes.append(
                f"no guard beside {where}: texts are not classified; the policy decides what that means (docs/policy.md)"
            )
        vectors = TextVectors.load(choice.embed) if choice is not None and choice.embed is not None else None
        if vectors is None:
            notes.append("no folder embed beside the index: no embeddings, no reranking, no search by vectors")
        return cls(choice, guard, vectors, tuple(notes))


def follow_swaps(
    inference: LocalInference,
    assistants: Assistants,
    content: ContentChecker,
    extras: MutableMapping[str, Any],
    describe: Callable[[ModelDescription], None],
) -> None:
    """Swap everything else of a version with its model. It is loaded first: a version with a damaged part, or without the documents
    that the present one has, is refused as a whole, so that no answer comes from two versions."""
    prepared: dict[Path, VersionParts] = {}

    def prepare(folder: Path) -> None:
        prepared.clear()
        parts = VersionParts.load(choose_model(folder, None, Path()))
        assert parts.choice is not None, "a folder was named"
        if parts.choice.index is None and assistants.has_documentation:
            raise ValueError(
                f"{folder.parent} has no index; found none, and the version that is served has one; publish it with its index."
            )
        make_tools(parts.choice.index, parts.choice.embed)  # opens the index
        prepared[folder] = parts

    def swap(folder: Path) -> None:
        parts = prepared.pop(folder)
        assert parts.choice is not None, "a folder was named"
        content.guard = parts.guard
        extras["vectors"] = parts.vectors
        assistants.replace_version(parts.choice)
        describe(inference.description)
        for note in parts.notes:
            _LOG.warning("%s", note)

    inference.before_swap(prepare)
    inference.on_swap(swap)


def watch_champion(inference: LocalInference, choice: ModelChoice) -> ChampionWatch | None:
    """Return what follows the champion if that is what is served; a model that was named stays until the end."""
    if choice.folder.parent.name != "champion":
        return None
    watch = ChampionWatch(inference, choice.folder)
    watch.start()
    return watch
