"""A Prefect worker that runs the deployment of prefect.yaml in this workspace, and nothing else.

In: flow runs that the server hands out. Out: `retrain` in this folder. Prefect's own process worker runs whatever command, folder
and environment the job variables of a run or deployment name, and whatever steps and entry point a deployment has; here a run with
any of those crashes with the reason, and the template of the work pool on the server is not used.

Does not cover: a holder of the server's key who changes the deployment between this check and the start of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.processes import server

ENTRYPOINT = "flows/retrain.py:retrain"
PULL_STEP = "prefect.deployments.steps.set_working_directory"


class RefusedRunError(RuntimeError):
    """A flow run asks for something else than the deployment of prefect.yaml."""


def make_template(root: Path) -> dict[str, Any]:
    """Return the template of jobs without any variable: no command, this folder, no environment but short waits for the server."""
    job = {
        "command": None,
        "env": dict(server.IMPATIENT),
        "labels": {},
        "name": None,
        "stream_output": True,
        "working_dir": str(root.resolve()),
    }
    return {"job_configuration": job, "variables": {"type": "object", "properties": {}}}


def check_run(run_variables: Any, deployment: DeploymentResponse | None, root: Path) -> None:
    """Raise `RefusedRunError` unless a run is one of prefect.yaml's deployment, without job variables."""
    if deployment is None:
        raise RefusedRunError("flow runs without a deployment are refused")
    if run_variables or deployment.job_variables:
        raise RefusedRunError("job variables (command, env, working_dir …) are refused: see docs/security.md")
    if deployment.entrypoint != ENTRYPOINT:
        raise RefusedRunError(f"the entry point {deployment.entrypoint} is refused: only {ENTRYPOINT} runs here")
    if deployment.pull_steps != [{PULL_STEP: {"directory": str(root.resolve())}}]:
        raise RefusedRunError("the deployment's pull steps are refused: only prefect.yaml's runs here")


class LockedConfiguration(ProcessJobConfiguration):
    """The configuration of a run, which job variables can't change."""

    @classmethod
    async def resolve_for_flow_run(
        cls,
        flow_run: FlowRun,
        *,
        client: PrefectClient,
        work_pool: WorkPool,
        worker_name: str,
        worker_id: UUID | None = None,
        deployment: DeploymentResponse | None = None,
    ) -> Self:
        """Return the configuration of a run of prefect.yaml's deployment. Raises `RefusedRunError` for any other."""
        if deployment is None and flow_run.deployment_id is not None:
            deployment = await client.read_deployment(flow_run.deployment_id)
        check_run(flow_run.job_variables, deployment, Path.cwd())
        return await super().resolve_for_flow_run(
            flow_run,
            client=client,
            work_pool=work_pool.model_copy(update={"base_job_template": make_template(Path.cwd())}),
            worker_name=worker_name,
            worker_id=worker_id,
            deployment=deployment,
        )


class LockedWorker(ProcessWorker):
    """A process worker that uses `LockedConfiguration`."""

    job_configuration = LockedConfiguration
