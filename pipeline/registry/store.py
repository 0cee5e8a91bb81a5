"""The only module of the pipeline that talks to MLflow: versions, aliases, tags, runs and their artifacts.

In: MLFLOW_TRACKING_URI, or else var/mlflow.db with its files in var/mlartifacts. Out: `MlflowStore`, opened by one process at a
time (a file lock), and `LiveRun`, which sends metrics to a tracking server during training. MLflow is imported when a store or a
live run is opened: that takes two to three seconds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from model.network.hashes import compute_digest
from pipeline.frame.errors import UserError
from pipeline.frame.locks import wait_lock
from pipeline.registry.installed import check_installed, install_files, list_files
from pipeline.registry.lineage import Point
from pipeline.registry.mlflow_database import DATABASE, prepare_database
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.paired.item_table import FIGURES, ITEMS, read_scores
from pipeline.registry.promotion import DIGEST, NAME, Version

EVALUATED = "evaluate"  # the folder of a run with what evaluate scored, and the report
SCORED = (ITEMS, FIGURES, "composition.json")
STATEMENT = "files.json"
ADDED_BY_DOWNLOADS = "registered_model_meta"  # a file that MLflow writes into what it downloads
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 14 seconds; MLflow's default retries an unreachable server for minutes
    "OMP_NUM_THREADS": "1",  # on a busy machine, threads waiting for each other made three tokens take a second
}
LIVE_EXPERIMENT = "minigpt-live"
LIVE_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "1",  # one request per second for all the steps within it
}
TRACKING_URI = "MLFLOW_TRACKING_URI"  # set by users whose store is not var/mlflow.db
REGISTRY_URI = "MLFLOW_REGISTRY_URI"
# Platforms and `mlflow run` set these for the run that they have started; a publication is a run of its own.
OF_ANOTHER_RUN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ACTIVE_MODEL_ID")
METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100  # MLflow's limits


@dataclass(frozen=True)
class MlflowStore:
    """An open registry: `mlflow` is the module, `client` its connection to the store."""

    root: Path
    mlflow: Any
    client: Any
    is_embedded: bool  # the repository's own store, var/mlflow.db

    def read_aliases(self) -> dict[str, str]:
        """Return the version number of each alias (candidate, champion, previous); empty before the first publication."""
        models = self.client.search_registered_models(f"name = '{NAME}'")
        return {alias: str(number) for alias, number in models[0].aliases.items()} if models else {}

    def list_versions(self) -> list[Version]:
        """Return all versions, newest first."""
        versions = [
            Version(str(v.version), v.run_id, v.tags, datetime.fromtimestamp(v.creation_timestamp / 1000).astimezone())
            for v in self.client.search_model_versions(f"name = '{NAME}'", max_results=10_000)
        ]
        return sorted(versions, key=lambda version: -int(version.number))

    def set_tag(self, number: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        self.client.set_model_version_tag(NAME, number, key, value)

    def set_alias(self, alias: str, number: str) -> None:
        """Move an alias to a version."""
        self.client.set_registered_model_alias(NAME, alias, number)

    def delete_alias(self, alias: str) -> None:
        """Delete an alias."""
        self.client.delete_registered_model_alias(NAME, alias)

    def read_metrics(self, version: Version) -> dict[str, float]:
        """Return the metrics that `evaluate` reported for a version, by their names in data/metrics/evaluate.json."""
        metrics: dict[str, float] = self.client.get_run(version.run_id).data.metrics
        return {
            name.removeprefix("evaluate."): value for name, value in metrics.items() if name.startswith("evaluate.")
        }

    def read_items(self, version: Version) -> dict[str, ItemScores]:
        """Return the scores of a version by metric and item; empty for a version of a release that stored none."""
        with tempfile.TemporaryDirectory() as folder:
            return read_scores(self.download_evaluation(version, Path(folder)))

    def download_evaluation(self, version: Version, folder: Path) -> Path:
        """Download what `evaluate` scored of a version, as far as it was stored, into a folder; return the folder."""
        stored = {Path(file.path).name for file in self.client.list_artifacts(version.run_id, EVALUATED)}
        for name in sorted(stored & set(SCORED)):
            path = Path(self.client.download_artifacts(version.run_id, f"{EVALUATED}/{name}", str(folder)))
            path.replace(folder / name)  # where MLflow puts a file depends on the kind of store
        return folder

    def read_params(self, version: Version) -> dict[str, str]:
        """Return the settings that a version was made with, by dotted name."""
        return dict(self.client.get_run(version.run_id).data.params)

    def read_lineage(self, version: Version) -> dict[str, Any]:
        """Return the lineage of a version: each stage's command, and path and md5 of its inputs and outputs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(self.client.download_artifacts(version.run_id, "lineage.json", folder))
            return json.loads(path.read_text(encoding="utf-8"))

    def fetch(self, version: Version, folder: Path) -> None:
        """Download a version into an empty folder: model/, index/, package/ (its code, as MLflow serves it) and files.json.

        Raises `UserError` that names every file which is not as the version states.
        """
        files = self.read_statement(version)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as download:
            install_files(self.download(version, Path(download)), files, folder, f"version {version.number}")

    def check(self, version: Version, folder: Path) -> None:
        """Check a folder that `fetch` has filled. Raises `UserError` that names every file which is not as the version states."""
        check_installed(folder, self.read_statement(version), f"version {version.number}")

    def download(self, version: Version, folder: Path) -> Path:
        """Download all files of a version, whatever they are, into an empty folder; return where they are."""
        uri = f"models:/{NAME}/{version.number}"
        location = urlparse(self.client.get_model_version_download_uri(NAME, version.number))
        if location.scheme in ("", "file"):
            list_files(Path(unquote(location.path)), f"version {version.number}")  # MLflow's copy would follow links
        self.mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=self.mlflow.get_tracking_uri())
        (folder / ADDED_BY_DOWNLOADS).unlink(missing_ok=True)
        return folder

    def read_statement(self, version: Version) -> dict[str, str]:
        """Return the SHA-256 of each file of a version, as stated when it was published.

        Raises `UserError` for a version that states nothing, or if the statement is not the one that its tag names.
        """
        digest = version.tags.get(DIGEST)
        if digest is None:
            raise UserError(
                f"version {version.number}: it does not state what its files are",
                "published before versions did that",
                f"if nobody else could change them, state it now: python -m pipeline.registry seal --version {version.number}",
            )
        files: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(self.client.download_artifacts(version.run_id, STATEMENT, folder))
            try:
                files = json.loads(path.read_text(encoding="utf-8"))
                found = compute_digest(files)
            except (ValueError, TypeError) as error:
                found = str(error)
        if found != digest:
            raise UserError(
                f"version {version.number}: {STATEMENT} of its run was changed",
                f"SHA-256 {found}, the version's tag {DIGEST} is {digest}",
                "find out who may write the artifacts (docs/security.md), and promote another version",
            )
        return files

    def state_files(self, run_id: str, files: Mapping[str, str]) -> str:
        """Store the statement of a version's files with its run; return the digest for the version's tag."""
        self.client.log_dict(run_id, dict(files), STATEMENT)
        return compute_digest(files)

    def log_values(self, run_id: str, points: Iterable[Point], params: Mapping[str, str]) -> None:
        """Log metrics and params to a run, in batches of the sizes that MLflow accepts."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric(point.name, point.value, now, point.step) for point in points]
        settings = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(metrics), METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])
        for start in range(0, len(settings), PARAMS_PER_BATCH):
            self.client.log_batch(run_id, params=settings[start : start + PARAMS_PER_BATCH])


@contextlib.contextmanager
def open_store(root: Path) -> Generator[MlflowStore]:
    """Open the store under an exclusive lock, because concurrent opens corrupt a database that is being created.

    Afterwards the environment is as before, and decides again which store MLflow uses. Raises `UserError` if `root` is not the
    repository's root.
    """
    if not (root / "dvc.yaml").exists():
        raise UserError(f"{root}: not the repository's root", "no dvc.yaml", "run this in the repository's root")
    with (
        wait_lock(root / "var/registry.lock", "registry: waiting for another registry command to finish"),
        _keep_environment((TRACKING_URI, REGISTRY_URI, *OF_ANOTHER_RUN)),
    ):
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        import mlflow

        for name in OF_ANOTHER_RUN:
            os.environ.pop(name, None)
        tracking_uri = os.environ.get(TRACKING_URI)
        uri = tracking_uri or prepare_database(root, _create_database)
        registry_uri = os.environ.get(REGISTRY_URI) if tracking_uri else None  # it belongs to a tracking server
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(registry_uri or uri)
        try:
            yield MlflowStore(root, mlflow, mlflow.MlflowClient(uri, registry_uri or uri), is_embedded=not tracking_uri)
        finally:
            undecided: Any = None  # the environment decides again; MLflow's annotations lack it
            mlflow.set_tracking_uri(undecided)
            mlflow.set_registry_uri(undecided)


def _create_database(uri: str, artifacts: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, artifacts).engine.dispose()


@contextlib.contextmanager
def _keep_environment(names: Iterable[str]) -> Generator[None]:
    """Restore these variables at the end: MLflow sets and deletes some, and the next call would take them for the user's."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def has_store(root: Path) -> bool:
    """Return whether there is a registry to read: the repository's own, or the one that MLFLOW_TRACKING_URI names."""
    return (root / DATABASE).exists() or bool(os.environ.get(TRACKING_URI))


def explain_failure(command: str, error: Exception) -> UserError | None:
    """Turn a failure of the store or of the disk into a `UserError`; return None for bugs, which keep their traceback."""
    if type(error).__module__.partition(".")[0] in ("mlflow", "sqlalchemy", "requests"):
        store = os.environ.get(TRACKING_URI) or "var/mlflow.db"
        return UserError(
            f"{command}: the MLflow store failed", str(error).partition("\n")[0], f"check {store}, then try again"
        )
    if isinstance(error, OSError):
        found = f"{error.filename or 'var'}: {error.strerror or error}"
        return UserError(f"{command}: a file could not be read or written", found, "fix the cause, then try again")
    return None


@dataclass(frozen=True)
class LiveRun:
    """An MLflow run that receives metrics during training."""

    client: Any
    run_id: str

    def log(self, metrics: Mapping[str, float], step: int) -> Future[Any]:
        """Queue the metrics of a step in MLflow's asynchronous queue; return the future of their arrival."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in metrics.items()]
        operations = self.client.log_batch(self.run_id, metrics=points, synchronous=False)
        return operations._operation_futures[0]

    def end(self, status: str) -> None:
        """Set the final status of the run."""
        self.client.set_terminated(self.run_id, status)


def open_live_run(name: str, key: str) -> LiveRun:
    """Open the run with this key on the server that MLFLOW_TRACKING_URI names: a new run, or the interrupted one.

    No lock is needed, because it is a server. LIVE_SETTINGS limit how long MLflow's threads, which are joined at exit, wait for it.
    """
    for setting, value in (SETTINGS | LIVE_SETTINGS).items():
        os.environ.setdefault(setting, value)
    import mlflow

    # It would log a line per batch; pipeline.training.live reports failures once, at the end.
    logging.getLogger("mlflow.utils.async_logging").setLevel(logging.CRITICAL)
    # By name: a URI that other code in this process has set would take precedence over the environment.
    uri = os.environ[TRACKING_URI]
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(LIVE_EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(LIVE_EXPERIMENT)
    earlier_runs = client.search_runs([experiment_id], f"tags.run_key = '{key}'")
    run = earlier_runs[0] if earlier_runs else client.create_run(experiment_id, run_name=name, tags={"run_key": key})
    client.update_run(run.info.run_id, status="RUNNING")
    return LiveRun(client, run.info.run_id)
