"""python -m pipeline.registry publish | gate | promote | rollback | pull | list: finished pipelines and the model in use.

In: the finished pipeline in this folder (dvc.lock and what it names). Out: one MLflow run and one version of the model
`minigpt` per fingerprint of model, index, evaluation and params; the aliases candidate, champion and previous; the champion's
model and index in var/champion.
The store is MLFLOW_TRACKING_URI, else var/mlflow.db with its files in var/mlartifacts. One command at a time (a file lock).
This is the only file that imports mlflow. Exit codes: 0 good, 1 a person's error, 2 usage, 3 the gate refused, 75 try later.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import report
from pipeline.frame.errors import UserError
from pipeline.frame.locks import wait_lock
from pipeline.frame.metrics import write_json
from pipeline.params import load_params
from pipeline.registry import champion, gate, lineage
from pipeline.registry.listing import VersionRow, console, verdict_table, version_table
from pipeline.registry.promotion import NAME, Version, find, judge, promote, pull, rollback
from pipeline.storage.tables import read_table

MODEL = Path("data/sft")
INDEX = Path("data/index")
SEARCHED = ("passages.sqlite",)  # of INDEX, what the assistant reads; the rest is for training
EVALUATION = Path("data/evaluate")
DOCUMENTS = "documents.parquet"
AGENT = Path("assistant/inference/mlflow_agent.py")
CODE = ("model", "assistant")
# What CODE imports; a test compares.
SERVING = ("mlflow", "torch", "numpy", "numba", "llvmlite", "pyarrow", "safetensors", "tokenizers", "jaxtyping")
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 14 seconds; by default a server that is away is asked for minutes
    "OMP_NUM_THREADS": "1",  # threads that wait for one another made three tokens take a second on a busy machine
}
LIVE_EXPERIMENT = "minigpt-live"
LIVE_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "1",  # one request a second for all steps in it
}
EXAMPLE = {"input": [{"role": "user", "content": "What is 12 * 7?"}], "max_output_tokens": 32}
ELSEWHERE = "MLFLOW_TRACKING_URI"  # where a person keeps the store, if not here
REFUSED, BUSY = 3, 75
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100  # MLflow's limits

Outcome = dict[str, Any]


@dataclass(frozen=True)
class MlflowStore:
    """An open registry: `mlflow` is the module, `client` talks to the store."""

    root: Path
    mlflow: Any
    client: Any
    is_embedded: bool  # the repository's own store

    def aliases(self) -> dict[str, str]:
        """candidate, champion, previous → version; empty before the first publication."""
        found = self.client.search_registered_models(f"name = '{NAME}'")
        return {alias: str(number) for alias, number in found[0].aliases.items()} if found else {}

    def versions(self) -> list[Version]:
        found = self.client.search_model_versions(f"name = '{NAME}'", max_results=10_000)
        versions = [
            Version(str(v.version), v.run_id, v.tags, datetime.fromtimestamp(v.creation_timestamp / 1000).astimezone())
            for v in found
        ]
        return sorted(versions, key=lambda version: -int(version.number))

    def tag(self, number: str, key: str, value: str) -> None:
        self.client.set_model_version_tag(NAME, number, key, value)

    def point(self, alias: str, number: str) -> None:
        self.client.set_registered_model_alias(NAME, alias, number)

    def unpoint(self, alias: str) -> None:
        self.client.delete_registered_model_alias(NAME, alias)

    def metrics(self, version: Version) -> dict[str, float]:
        metrics: dict[str, float] = self.client.get_run(version.run_id).data.metrics
        return {
            name.removeprefix("evaluate."): value for name, value in metrics.items() if name.startswith("evaluate.")
        }

    def documents(self, version: Version) -> gate.DocumentLosses:
        with tempfile.TemporaryDirectory() as folder:
            path = self.client.download_artifacts(version.run_id, f"evaluate/{DOCUMENTS}", folder)
            table = read_table(Path(path), ["id", "n_bytes", "nats"])
        return gate.DocumentLosses(*(np.asarray(table.column(name).to_pylist()) for name in ("id", "n_bytes", "nats")))

    def fetch(self, version: Version, folder: Path) -> None:
        uri = f"models:/{NAME}/{version.number}/artifacts"
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as aside:
            arrange(Path(self.mlflow.artifacts.download_artifacts(uri, dst_path=aside)), folder)


def arrange(artifacts: Path, folder: Path) -> None:
    """Move the artifacts of a version to `model/` and `index/` below `folder`. A version published before there was an index
    has its passages among the model's files."""
    shutil.move(artifacts / MODEL.name, folder / "model")
    if (artifacts / INDEX.name).is_dir():
        shutil.move(artifacts / INDEX.name, folder / "index")
        return
    (folder / "index").mkdir()
    for name in SEARCHED:
        shutil.move(folder / "model" / name, folder / "index" / name)


@contextlib.contextmanager
def copied_index(root: Path) -> Generator[Path]:
    """Copy what the assistant reads of the index into a temporary folder of the same name."""
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / INDEX.name
        folder.mkdir()
        for name in SEARCHED:
            shutil.copyfile(root / INDEX / name, folder / name)
        yield folder


@contextlib.contextmanager
def open_store(root: Path) -> Generator[MlflowStore]:
    """The store, held alone: a fresh database that several processes open at once would not survive it."""
    if not (root / "dvc.yaml").exists():
        raise UserError(f"{root}: not the repository", "no dvc.yaml", "run in the repository's root")
    var = root / "var"
    with wait_lock(var / "registry.lock", "registry: waiting for another registry command to end"):
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        import mlflow

        elsewhere = os.environ.get(ELSEWHERE)
        mlflow.set_tracking_uri(elsewhere or f"sqlite:///{var / 'mlflow.db'}")
        if not elsewhere:
            os.environ.pop(ELSEWHERE, None)  # MLflow has just set it: the next one would take it for a person's wish
        yield MlflowStore(root, mlflow, mlflow.MlflowClient(), is_embedded=not elsewhere)


@dataclass(frozen=True)
class LiveRun:
    """One run on a tracking server, which gets metrics while training goes on."""

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
        self.client.set_terminated(self.run_id, status)


def open_live_run(name: str, key: str) -> LiveRun:
    """Open the run of a key on the server that MLFLOW_TRACKING_URI names: a new one, or the one that was interrupted.

    No lock: it is a server. LIVE_SETTINGS bound how long MLflow's threads, which are joined at exit, can wait for it.
    """
    for setting, value in (SETTINGS | LIVE_SETTINGS).items():
        os.environ.setdefault(setting, value)
    import mlflow

    logging.getLogger("mlflow.utils.async_logging").setLevel(
        logging.CRITICAL
    )  # one line a batch; pipeline.training.phase.live reports once
    client = mlflow.MlflowClient()
    known = client.get_experiment_by_name(LIVE_EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(LIVE_EXPERIMENT)
    earlier = client.search_runs([experiment], f"tags.run_key = '{key}'")
    run = earlier[0] if earlier else client.create_run(experiment, run_name=name, tags={"run_key": key})
    client.update_run(run.info.run_id, status="RUNNING")
    return LiveRun(client, run.info.run_id)


def publish(store: MlflowStore) -> Outcome:
    """Publish the finished pipeline; the same model, evaluation and params are the same version, wherever they were made."""
    work = lineage.collect(store.root)
    known = _version_of(store, work.fingerprint)
    number = known or _publish(store, work)
    aliases = store.aliases()
    if number not in (aliases.get("champion"), aliases.get("candidate")):
        store.point("candidate", number)
    return {"version": number, "is_new": known is None, "champion": aliases.get("champion"), "metrics": work.metrics}


def _publish(store: MlflowStore, work: lineage.Publication) -> str:
    experiment = _experiment(store)
    for unfinished in store.client.search_runs([experiment], f"tags.fingerprint = '{work.fingerprint}'"):
        store.client.delete_run(unfinished.info.run_id)  # of a publication that was killed before it had a version
    tags = {**work.tags, "fingerprint": work.fingerprint}
    with store.mlflow.start_run(experiment_id=experiment, run_name=work.fingerprint[:12], tags=tags) as run:
        _log_figures(store, work, run.info.run_id)
        _log_files(store, work, run.info.run_id)
        with copied_index(store.root) as index:
            model = store.mlflow.pyfunc.log_model(
                name="model",
                python_model=str(store.root / AGENT),
                artifacts={"model": str(store.root / MODEL), "index": str(index)},
                code_paths=[str(store.root / name) for name in CODE],
                input_example=EXAMPLE,  # MLflow asks it twice: a model that can't answer is not published
                pip_requirements=serving_requirements(store.root),
            )
    return _register(store, work, run.info.run_id, model)


def _log_figures(store: MlflowStore, work: lineage.Publication, run_id: str) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in work.metrics.items()]
    metrics += [Metric(point.name, point.value, now, point.step) for point in work.curves]
    params = [Param(name, value) for name, value in work.params.items()]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        store.client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_BATCH])
    for start in range(0, len(params), PARAMS_A_BATCH):
        store.client.log_batch(run_id, params=params[start : start + PARAMS_A_BATCH])


def _log_files(store: MlflowStore, work: lineage.Publication, run_id: str) -> None:
    store.client.log_dict(run_id, work.lineage, "lineage.json")
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        store.client.log_artifact(run_id, str(store.root / name))
    store.client.log_artifact(run_id, str(store.root / EVALUATION / DOCUMENTS), "evaluate")
    with tempfile.TemporaryDirectory() as folder:
        _log_report(store, run_id, "evaluate", Path(folder))


def _log_report(store: MlflowStore, run_id: str, place: str, out: Path, theirs: dict[str, float] | None = None) -> None:
    """Write the report of the finished pipeline to `out` and to the run's artifacts, with `theirs`, the champion's metrics."""
    report.write(out, report.read_facts(store.root), theirs)
    for name in report.FILES:
        store.client.log_artifact(run_id, str(out / name), place)


def _register(store: MlflowStore, work: lineage.Publication, run_id: str, model: Any) -> str:
    """The version, with its fingerprint from its first moment; another one's, if another machine was faster."""
    if not store.client.search_registered_models(f"name = '{NAME}'"):
        store.client.create_registered_model(NAME, description="An assistant for its own Python environment.")
    tags = {"fingerprint": work.fingerprint, **work.tags}
    made = store.client.create_model_version(NAME, model.model_uri, run_id, tags=tags, model_id=model.model_id)
    number = _version_of(store, work.fingerprint) or str(made.version)
    if number != str(made.version):
        store.client.delete_model_version(NAME, str(made.version))
        store.client.delete_run(run_id)
    return number


def _version_of(store: MlflowStore, fingerprint: str) -> str | None:
    found = [version.number for version in store.versions() if version.tags.get("fingerprint") == fingerprint]
    return min(found, key=int) if found else None


def _experiment(store: MlflowStore) -> str:
    found = store.client.get_experiment_by_name(NAME)
    if found is not None:
        return str(found.experiment_id)
    location = (store.root / "var/mlartifacts").as_uri() if store.is_embedded else None
    return str(store.client.create_experiment(NAME, artifact_location=location))


def serving_requirements(root: Path) -> list[str]:
    """Exact versions of what the assistant imports: from requirements.lock, else what is installed."""
    lock = root / "requirements.lock"
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    pins = dict(line.split()[0].split("==") for line in lines if "==" in line and not line.startswith("#"))
    return [f"{name}=={pins.get(name) or importlib.metadata.version(name)}" for name in SERVING]


def version_rows(store: MlflowStore, skills: list[str]) -> list[VersionRow]:
    """Every version for `list`, newest first."""
    aliases = store.aliases()
    made: list[VersionRow] = []
    for version in store.versions():
        metrics, tags = store.metrics(version), version.tags
        notes = [note for key, note in (("rolled_back", "rolled back"), ("forced_reason", "forced")) if key in tags]
        row = VersionRow(
            version.number,
            [alias for alias, number in aliases.items() if number == version.number],
            metrics.get("bpb"),
            {name: metrics.get(name) for name in skills},
            ", ".join([tags.get("gate", "not judged"), *notes]),
            version.made_at.strftime("%Y-%m-%d %H:%M"),
            tags.get("git_commit", ""),
        )
        made.append(row)
    return made


def lineages(store: MlflowStore) -> list[tuple[str, tuple[str, ...], str, dict[str, Any]]]:
    """Number, aliases, fingerprint and lineage of every version, newest first."""
    aliases, made = store.aliases(), []
    for version in store.versions():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(store.client.download_artifacts(version.run_id, "lineage.json", folder))
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(alias for alias, number in aliases.items() if number == version.number)
        made.append((version.number, names, version.tags.get("fingerprint", ""), known))
    return made


def _publish_command(store: MlflowStore, _args: argparse.Namespace) -> tuple[int, Outcome]:
    done = publish(store)
    said = "published" if done["is_new"] else "published before, with the same model, evaluation and params"
    print(f"version {done['version']} of {NAME}: {said}", flush=True)
    return 0, done


def write_report(store: MlflowStore, number: str, current: str | None) -> None:
    """var/report.html and .md: the finished pipeline's report with the champion's figures beside, if it is this version's."""
    version, root = find(store, number), store.root
    if version.tags.get("fingerprint") != lineage.fingerprint(lineage.read_lock(root)):
        return
    if number == current and (root / "var" / report.FILES[0]).exists():
        return  # beside whom it was promoted says more than beside itself
    theirs = store.metrics(find(store, current)) if current not in (None, number) else None
    with tempfile.TemporaryDirectory(dir=root / "var") as aside:
        _log_report(store, version.run_id, "gate", Path(aside), theirs)
        for name in report.FILES:
            (Path(aside) / name).replace(root / "var" / name)


def _gate_command(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    current = store.aliases().get("champion")
    number, verdict = judge(store, load_params(store.root / "params.yaml").registry, args.version)
    write_report(store, number, current)
    if verdict.checks:
        console().print(verdict_table(verdict))
    print(f"version {number} {'passed' if verdict.is_passed else 'REFUSED'}: {verdict.reason}", flush=True)
    outcome = {"version": number, "is_passed": verdict.is_passed, "reason": verdict.reason}
    return 0 if verdict.is_passed else REFUSED, outcome


def _promote_command(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    number, said = promote(store, args.version, args.force)
    print(f"{said}; its folder: {champion.LINK}", flush=True)
    return 0, {"version": number, "said": said}


def _rollback_command(store: MlflowStore, _args: argparse.Namespace) -> tuple[int, Outcome]:
    said = rollback(store)
    print(said, flush=True)
    return 0, {"said": said}


def _pull_command(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    number, folder = pull(store, args.version or args.alias, args.to)
    print(f"version {number} of {NAME} is in {folder}", flush=True)
    return 0, {"version": number, "folder": str(folder)}


def _list_command(store: MlflowStore, _args: argparse.Namespace) -> tuple[int, Outcome]:
    rows = version_rows(store, list(load_params(store.root / "params.yaml").registry.max_skill_drop))
    if rows:
        console().print(version_table(rows))
    else:
        print("no versions yet: `make run` makes one")
    return 0, {"versions": [row.number for row in rows], "aliases": store.aliases()}


COMMANDS: dict[str, Callable[[MlflowStore, argparse.Namespace], tuple[int, Outcome]]] = {
    "publish": _publish_command,
    "gate": _gate_command,
    "promote": _promote_command,
    "rollback": _rollback_command,
    "pull": _pull_command,
    "list": _list_command,
}


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(prog="python -m pipeline.registry", description=__doc__, formatter_class=raw)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, say: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=say, description=say)
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the outcome there")
        return command

    add(
        "publish",
        "publish the finished pipeline as a version; the same model, evaluation and params are the same version",
    )
    command = add("gate", "compare a version with the champion; exit code 3 if it is refused")
    command.add_argument("--version", metavar="N", help="default: the candidate")
    command = add("promote", "make a version that passed the gate the champion, and pull it")
    command.add_argument("--version", metavar="N", help="default: the candidate")
    command.add_argument("--force", default="", metavar="REASON", help="whatever the gate said; kept as a tag")
    add("rollback", "make the previous champion the champion again, and pull it")
    command = add("pull", "fetch the champion into var/champion, or any version into a folder")
    command.add_argument("--alias", default="champion", choices=("champion", "candidate", "previous"))
    command.add_argument("--version", metavar="N", help="instead of an alias")
    command.add_argument("--to", type=Path, metavar="FOLDER", help="default: var/champion")
    add("list", "all versions, newest first")
    return whole


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    args = parser().parse_args(argv)
    try:
        with open_store(Path.cwd()) as store:
            code, outcome = COMMANDS[args.command](store, args)
        if args.json is not None:
            write_json(args.json, outcome)
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{args.command}: interrupted; run it again", file=sys.stderr)
        return 130
    except Exception as error:
        failed = explained(args.command, error)
        if failed is None:
            raise
        print(f"error: {failed}", file=sys.stderr)
        return BUSY if "database is locked" in str(error) else 1


def explained(command: str, error: Exception) -> UserError | None:
    """What the store or the disk did, for a person; None for our own mistakes, which show a traceback."""
    if type(error).__module__.partition(".")[0] in ("mlflow", "sqlalchemy", "requests"):
        where = os.environ.get(ELSEWHERE) or "var/mlflow.db"
        return UserError(f"{command}: the MLflow store failed", str(error).partition("\n")[0], f"look after {where}")
    if isinstance(error, OSError):
        found = f"{error.filename or 'var'}: {error.strerror or error}"
        return UserError(f"{command}: a file could not be read or written", found, "mend that, then run it again")
    return None


if __name__ == "__main__":
    sys.exit(main())
