"""Publish a finished pipeline: one MLflow run and one version of the model per fingerprint, and the reports of both.

In: an open `MlflowStore`, and the finished pipeline in the repository's root. Out: the run's metrics, params, curves, lineage and
report, the packaged model with the code that serves it, and the version, with the alias candidate if it is new.
"""

from __future__ import annotations

import contextlib
import getpass
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlparse

from pipeline.registry.champion import read_installed
from pipeline.registry.description import add_decision, describe_version
from pipeline.registry.gate import Verdict
from pipeline.registry.installed import list_files
from pipeline.registry.lineage import Point, Publication, collect_publication, compute_fingerprint, read_lock
from pipeline.registry.listing import make_decision_rows
from pipeline.registry.mlflow_database import ARTIFACTS
from pipeline.registry.package import Packaged, log_package
from pipeline.registry.paired.item_table import FIGURES, read_titles
from pipeline.registry.promotion import DIGEST, NAME, find_version
from pipeline.registry.store import EVALUATED, SCORED, MlflowStore
from pipeline.report.decision import DecisionRow
from pipeline.report.facts import Champion, read_facts, read_provenance
from pipeline.report.markdown import render_decision
from pipeline.report.render import FILES, write_report

EVALUATION = Path("data/evaluate")
DECISION = "gate/decision.md"


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
    remove_unfinished(store, work.fingerprint)
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
    tags = {**work.tags, "fingerprint": work.fingerprint, "mlflow.source.name": "python -m pipeline.registry publish"}
    with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    run_id: str = store.client.create_run(experiment, run_name=work.fingerprint[:12], tags=tags).info.run_id
    try:
        packaged = log_package(store, experiment, run_id, work.params)
        metrics = [Point(name, 0, value) for name, value in work.metrics.items()]
        store.log_values(run_id, [*metrics, *work.curves], work.params)
        _log_files(store, work, run_id)
        number = _register(store, work, run_id, packaged, get_run_page(experiment, run_id))
    except Exception:
        store.client.set_terminated(run_id, "FAILED")
        raise
    store.client.set_terminated(run_id, "FINISHED")  # last: an active run without a version was killed
    return number


def remove_unfinished(store: MlflowStore, fingerprint: str) -> None:
    """Remove what publications that were killed or failed have left: runs without a version, their models and their files.

    In the repository's own store, which only the holder of the lock writes, those of any fingerprint; on a server, where other
    machines may be publishing, those of this one.
    """
    experiment = store.client.get_experiment_by_name(NAME)
    if experiment is None:
        return
    published = {version.run_id for version in store.list_versions()}
    runs = store.client.search_runs([experiment.experiment_id], "tags.fingerprint != ''", max_results=10_000)
    for run in runs:
        if run.info.run_id in published:
            if run.info.status == "RUNNING" and store.is_embedded:
                store.client.set_terminated(run.info.run_id, "FINISHED")  # killed after its version was created
        elif run.data.tags["fingerprint"] == fingerprint or (store.is_embedded and run.info.status != "FINISHED"):
            _remove_run(store, str(experiment.experiment_id), run)


def _remove_run(store: MlflowStore, experiment: str, run: Any) -> None:
    for model in store.client.search_logged_models([experiment], f"source_run_id = '{run.info.run_id}'"):
        _remove_artifacts(store, model.artifact_location)
        store.client.delete_logged_model(model.model_id)
    _remove_artifacts(store, run.info.artifact_uri)
    store.client.delete_run(run.info.run_id)


def _remove_artifacts(store: MlflowStore, location: str) -> None:
    """Remove the folder of a run or model, if it is in the repository's own store."""
    folder = Path(unquote(urlparse(location).path)).parent
    if store.is_embedded and folder.is_relative_to(store.root.resolve() / ARTIFACTS) and folder.name != ARTIFACTS.name:
        shutil.rmtree(folder, ignore_errors=True)


def seal(store: MlflowStore, number: str) -> str:
    """State what the files of a version are that was published before versions did that; return the digest.

    Only whoever knows that nobody has changed the files should do so: later changes are found, earlier ones are not.
    """
    version = find_version(store, number)
    with tempfile.TemporaryDirectory() as folder:
        files = list_files(store.download(version, Path(folder)), f"version {number}")
    digest = store.state_files(version.run_id, files)
    store.set_tag(number, DIGEST, digest)
    return digest


def _log_files(store: MlflowStore, work: Publication, run_id: str) -> None:
    store.client.log_dict(run_id, work.lineage, "lineage.json")
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        store.client.log_artifact(run_id, str(store.root / name))
    for name in SCORED:
        store.client.log_artifact(run_id, str(store.root / EVALUATION / name), EVALUATED)
    with tempfile.TemporaryDirectory() as folder:
        _log_report(store, run_id, EVALUATED, Path(folder), fingerprint=work.fingerprint)


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


def _register(store: MlflowStore, work: Publication, run_id: str, packaged: Packaged, run_page: str) -> str:
    """Create the version together with its fingerprint; return the number of another machine's if that one was first."""
    if not store.client.search_registered_models(f"name = '{NAME}'"):
        store.client.create_registered_model(NAME, description="An assistant for its own Python environment.")
    tags = {"fingerprint": work.fingerprint, DIGEST: packaged.digest, **work.tags}
    description = describe_version(work, read_facts(store.root), run_page)
    created = store.client.create_model_version(
        NAME, packaged.uri, run_id, tags=tags, description=description, model_id=packaged.model_id
    )
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
    location = (store.root.resolve() / ARTIFACTS).as_uri() if store.is_embedded else None
    return str(store.client.create_experiment(NAME, artifact_location=location))


def write_decision(store: MlflowStore, number: str, rows: Sequence[DecisionRow], verdict: Verdict) -> None:
    """Show the gate's decision with the version: in its description, and the whole table as an artifact of its run."""
    version = find_version(store, number)
    experiment = store.client.get_run(version.run_id).info.experiment_id
    description = store.client.get_model_version(NAME, number).description or ""
    changed = add_decision(description, rows, verdict.reason, get_run_page(experiment, version.run_id))
    store.client.update_model_version(NAME, number, changed)
    if rows:
        table = render_decision(rows, verdict.reason)
        store.client.log_text(version.run_id, "\n".join(table), DECISION)


def get_run_page(experiment: str, run_id: str) -> str:
    """Return the address of a run within MLflow's pages."""
    return f"#/experiments/{experiment}/runs/{run_id}"


def write_gate_report(store: MlflowStore, number: str, current: str | None, verdict: Verdict) -> None:
    """Write var/report.html and var/report.md with the gate's decision, and log both to the version's run.

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
        titles = read_titles(root / EVALUATION / FIGURES)
        metrics = store.read_metrics(find_version(store, current))
        champion = Champion(current, metrics, make_decision_rows(verdict, titles), verdict.reason)
    with tempfile.TemporaryDirectory(dir=root / "var") as folder:
        out = Path(folder)
        _log_report(store, version.run_id, "gate", out, fingerprint=fingerprint, version=number, champion=champion)
        for name in FILES:
            (out / name).replace(root / "var" / name)
