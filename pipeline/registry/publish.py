"""Publish a finished pipeline: one MLflow run and one version of the model per fingerprint, and the reports of both.

In: an open `MlflowStore`, and the finished pipeline in the repository's root. Out: the run's metrics, params, curves, lineage and
report, the packaged model with the code that serves it, and the version, with the alias candidate if it is new.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.registry.champion import read_installed
from pipeline.registry.lineage import Point, Publication, collect_publication, compute_fingerprint, read_lock
from pipeline.registry.promotion import NAME, find_version
from pipeline.registry.store import DOCUMENTS, SEARCHED, MlflowStore
from pipeline.report.facts import Champion, read_facts, read_provenance
from pipeline.report.render import FILES, write_report

MODEL = Path("data/sft")
INDEX = Path("data/index")
EVALUATION = Path("data/evaluate")
AGENT = Path("assistant/inference/mlflow_agent.py")
CODE = ("model", "assistant")
# The packages that CODE imports; a test compares.
SERVING = ("mlflow", "torch", "numpy", "numba", "llvmlite", "pyarrow", "safetensors", "tokenizers", "jaxtyping")
EXAMPLE = {"input": [{"role": "user", "content": "What is 12 * 7?"}], "max_output_tokens": 32}


class Published(NamedTuple):
    """The version of the finished pipeline.

    `is_new` is False if the same fingerprint was published before; `is_installed`: it is the champion, and in var/champion.
    """

    version: str
    is_new: bool
    is_installed: bool
    champion: str | None
    metrics: dict[str, float]


def publish(store: MlflowStore) -> Published:
    """Publish the finished pipeline. The same model, evaluation and params are the same version on every machine."""
    work = collect_publication(store.root)
    existing = _find_number(store, work.fingerprint)
    number = existing or _create_version(store, work)
    aliases = store.read_aliases()
    if number not in (aliases.get("champion"), aliases.get("candidate")):
        store.set_alias("candidate", number)
    installed = read_installed(store.root)
    is_installed = number == aliases.get("champion") == installed.get("version") and installed["alias"] == "champion"
    return Published(number, existing is None, is_installed, aliases.get("champion"), work.metrics)


def _create_version(store: MlflowStore, work: Publication) -> str:
    experiment = _get_experiment(store)
    for unfinished in store.client.search_runs([experiment], f"tags.fingerprint = '{work.fingerprint}'"):
        store.client.delete_run(unfinished.info.run_id)  # of a publication that was killed before it had a version
    tags = {**work.tags, "fingerprint": work.fingerprint}
    with store.mlflow.start_run(experiment_id=experiment, run_name=work.fingerprint[:12], tags=tags) as run:
        metrics = [Point(name, 0, value) for name, value in work.metrics.items()]
        store.log_values(run.info.run_id, [*metrics, *work.curves], work.params)
        _log_files(store, work, run.info.run_id)
        with copy_index(store.root) as index:
            model = store.mlflow.pyfunc.log_model(
                name="model",
                python_model=str(store.root / AGENT),
                artifacts={"model": str(store.root / MODEL), "index": str(index)},
                code_paths=[str(store.root / name) for name in CODE],
                input_example=EXAMPLE,  # MLflow runs it twice: a model that can't answer is not published
                pip_requirements=list_serving_requirements(store.root),
            )
    return _register(store, work, run.info.run_id, model)


@contextlib.contextmanager
def copy_index(root: Path) -> Generator[Path]:
    """Copy the part of the index that the assistant reads into a temporary folder of the same name."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / INDEX.name
        folder.mkdir()
        for name in SEARCHED:
            shutil.copyfile(root / INDEX / name, folder / name)
        yield folder


def _log_files(store: MlflowStore, work: Publication, run_id: str) -> None:
    store.client.log_dict(run_id, work.lineage, "lineage.json")
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        store.client.log_artifact(run_id, str(store.root / name))
    store.client.log_artifact(run_id, str(store.root / EVALUATION / DOCUMENTS), "evaluate")
    with tempfile.TemporaryDirectory() as folder:
        _log_report(store, run_id, "evaluate", Path(folder), fingerprint=work.fingerprint)


def _log_report(
    store: MlflowStore,
    run_id: str,
    artifact_path: str,
    out: Path,
    *,
    fingerprint: str,
    version: str = "",
    champion: Champion | None = None,
) -> None:
    """Write the report of the finished pipeline to `out` and to the run's artifacts, compared with the champion if given."""
    provenance = read_provenance(store.root, version=version, fingerprint=fingerprint)
    write_report(out, read_facts(store.root), provenance, champion)
    for name in FILES:
        store.client.log_artifact(run_id, str(out / name), artifact_path)


def _register(store: MlflowStore, work: Publication, run_id: str, model: Any) -> str:
    """Create the version together with its fingerprint; return the number of another machine's if that one was first."""
    if not store.client.search_registered_models(f"name = '{NAME}'"):
        store.client.create_registered_model(NAME, description="An assistant for its own Python environment.")
    tags = {"fingerprint": work.fingerprint, **work.tags}
    created = store.client.create_model_version(NAME, model.model_uri, run_id, tags=tags, model_id=model.model_id)
    number = _find_number(store, work.fingerprint) or str(created.version)
    if number != str(created.version):
        store.client.delete_model_version(NAME, str(created.version))
        store.client.delete_run(run_id)
    return number


def _find_number(store: MlflowStore, fingerprint: str) -> str | None:
    numbers = [version.number for version in store.list_versions() if version.tags.get("fingerprint") == fingerprint]
    return min(numbers, key=int) if numbers else None


def _get_experiment(store: MlflowStore) -> str:
    experiment = store.client.get_experiment_by_name(NAME)
    if experiment is not None:
        return str(experiment.experiment_id)
    location = (store.root / "var/mlartifacts").as_uri() if store.is_embedded else None
    return str(store.client.create_experiment(NAME, artifact_location=location))


def list_serving_requirements(root: Path) -> list[str]:
    """Return the exact versions of the packages that the assistant imports: those of requirements.lock, else the installed ones."""
    lock = root / "requirements.lock"
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    pins = dict(line.split()[0].split("==") for line in lines if "==" in line and not line.startswith("#"))
    return [f"{name}=={pins.get(name) or importlib.metadata.version(name)}" for name in SERVING]


def write_gate_report(store: MlflowStore, number: str, current: str | None) -> None:
    """Write var/report.html and var/report.md with the champion's metrics for comparison, and log both to the version's run.

    Do nothing if the finished pipeline in the repository is another version than `number`, or if `number` is the champion and
    has a report already: that one compares it with the champion that it replaced.
    """
    version, root = find_version(store, number), store.root
    fingerprint = version.tags.get("fingerprint", "")
    if fingerprint != compute_fingerprint(read_lock(root)):
        return
    if number == current and (root / "var" / FILES[0]).exists():
        return
    champion = None
    if current is not None and current != number:
        champion = Champion(current, store.read_metrics(find_version(store, current)))
    with tempfile.TemporaryDirectory(dir=root / "var") as folder:
        out = Path(folder)
        _log_report(store, version.run_id, "gate", out, fingerprint=fingerprint, version=number, champion=champion)
        for name in FILES:
            (out / name).replace(root / "var" / name)
