"""One version of the model as it is served: loaded once, counted while it is used, freed after its last use.

In: a model folder, which is resolved first, so that a link that changes meanwhile mixes no two versions. Out: its description with
its lineage, its engine, and engines of its adapters.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Condition

from assistant.inference.adapters import AdapterEngines, get_adapters_folder
from assistant.inference.local import ModelEngine
from assistant.inference.served_model import ServedModel, ServingSizes
from service.answers.interfaces import ModelDescription

LOADED = ("model/", "index/", "embed/")  # parts of a pulled version that answers come from


class ModelVersion:
    """A loaded version. Thread-safe."""

    def __init__(self, engine: ModelEngine, adapters: Path, sizes: ServingSizes | None) -> None:
        self.folder, self.description = engine.info.folder, describe_model(engine)
        self._sizes, self._adapters = sizes, AdapterEngines(engine, adapters)
        self._served = {"": ServedModel(engine, sizes)}
        self._n_uses, self._changed = 0, Condition()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        adapters: Path | None = None,
        weights: str | None = None,
        sizes: ServingSizes | None = None,
    ) -> ModelVersion:
        """Load a model folder and compile its kernel. Raises: ValueError for a missing, damaged or changed folder."""
        resolved = Path(os.path.realpath(folder))
        engine = ModelEngine.load(resolved, weights=weights)
        engine.wait()
        return cls(engine, adapters or get_adapters_folder(), sizes)

    @property
    def served(self) -> ServedModel:
        """The model without an adapter."""
        return self._served[""]

    def get_served(self, adapter: str) -> ServedModel:
        """Return the model with an adapter, which is loaded at its first use. Raises: ValueError for an unknown one."""
        if adapter in self._served:
            return self._served[adapter]
        engine = self._adapters.get(adapter)
        engine.wait()
        with self._changed:
            if adapter not in self._served:
                self._served[adapter] = ServedModel(engine, self._sizes)
            return self._served[adapter]

    def acquire(self) -> None:
        """Count a use."""
        with self._changed:
            self._n_uses += 1

    def release(self) -> None:
        """Count the end of a use."""
        with self._changed:
            self._n_uses -= 1
            self._changed.notify_all()

    def wait_unused(self, seconds: float | None = None) -> bool:
        """Wait until nobody uses it. Return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._n_uses == 0, seconds)

    def retire(self) -> None:
        """Close it after its last use."""
        self.wait_unused()
        self.close()

    def close(self) -> None:
        """End its threads; answers that are running end with an error."""
        for served in self._served.values():
            served.close()

    def forget(self, tenant: str) -> None:
        """Drop what is cached of a tenant's texts."""
        for served in self._served.values():
            served.forget(tenant)


def describe_model(engine: ModelEngine) -> ModelDescription:
    """Return what is served; of a pulled champion also its name, its version, the fingerprint of the run that made it
    (data, params, code) and the hashes of its files."""
    info = engine.info
    name, version, lineage = "minigpt", "", dict[str, str]()
    folder = info.folder.parent
    if (folder / "version.json").is_file():
        stated = json.loads((folder / "version.json").read_text(encoding="utf-8"))
        name, version = str(stated["name"]), str(stated["version"])
        lineage = {key: str(stated[key]) for key in ("fingerprint", "commit") if key in stated}
    if (folder / "files.json").is_file():
        files = json.loads((folder / "files.json").read_text(encoding="utf-8"))
        lineage |= {key: value for key, value in files.items() if key.startswith(LOADED)}
    sizes = (info.seq_len, info.vocab_size, info.n_parameters)
    return ModelDescription(name, version, info.phase, *sizes, info.weights, lineage)
