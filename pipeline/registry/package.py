"""Package the finished model as an MLflow model: weights, index, embedder, guard, the code for them, the SHA-256 of every file.

In: the repository's root. Out: an MLflow model logged to a run, with the statement of its files, which is made before anything is
uploaded. MLflow's functions with a global run or experiment are not used: a publication is a run of its own, whatever the
environment or other code in this process has set.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.registry.installed import list_files
from pipeline.registry.store import MlflowStore

MODEL = Path("data/sft")
INDEX = Path("data/index")
EMBED = Path("data/embed")
GUARD = Path("data/guard")
AGENT = Path("assistant/inference/mlflow_agent.py")
CODE = ("model", "assistant")
# The packages that AGENT imports, with all that it imports of CODE; a test compares.
SERVING = (
    "mlflow",
    "torch",
    "numpy",
    "numba",
    "llvmlite",
    "pyarrow",
    "safetensors",
    "tokenizers",
    "jaxtyping",
    "pystemmer",
    "pint",
)
EXAMPLE = {"input": [{"role": "user", "content": "What is 12 * 7?"}], "max_output_tokens": 32}


class Packaged(NamedTuple):
    """A logged MLflow model: its id, its address, and the digest of the statement of its files."""

    model_id: str
    uri: str
    digest: str


def log_package(store: MlflowStore, experiment: str, run_id: str, params: Mapping[str, str]) -> Packaged:
    """Make an MLflow model of the finished pipeline and log it to a run. Raises if it can't answer an example."""
    logged = store.client.create_logged_model(experiment, name="model", source_run_id=run_id, params=dict(params))
    location, model_id = logged.artifact_location, logged.model_id
    about = store.mlflow.models.Model(artifact_path=location, model_uuid=model_id, run_id=run_id, model_id=model_id)
    with tempfile.TemporaryDirectory() as parent, _no_bytecode():
        folder = Path(parent) / "model"
        store.mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=about,
            python_model=str(store.root / AGENT),
            artifacts={
                "model": str(store.root / MODEL),
                "index": str(store.root / INDEX),
                "embed": str(store.root / EMBED),
                "guard": str(store.root / GUARD),
            },
            code_paths=[str(store.root / name) for name in CODE],
            input_example=EXAMPLE,  # MLflow runs it: a model that can't answer is not published
            pip_requirements=list_serving_requirements(store.root),
        )
        for cache in folder.rglob("__pycache__"):
            shutil.rmtree(cache)
        digest = store.state_files(run_id, list_files(folder, "publish"))
        store.client.log_model_artifacts(model_id, str(folder))
    store.client.log_outputs(run_id, [store.mlflow.entities.LoggedModelOutput(model_id, step=0)])
    store.client.finalize_logged_model(model_id, "READY")
    return Packaged(model_id, f"models:/{model_id}", digest)


@contextmanager
def _no_bytecode() -> Generator[None]:
    """Write no __pycache__ beside the packaged code when MLflow runs the example."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def list_serving_requirements(root: Path) -> list[str]:
    """Return the exact versions of the packages that the assistant imports: those of requirements.lock, else the installed ones."""
    lock = root / "requirements.lock"
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    pins = dict(line.split()[0].split("==") for line in lines if "==" in line and not line.startswith("#"))
    return [f"{name}=={pins.get(name) or importlib.metadata.version(name)}" for name in SERVING]
