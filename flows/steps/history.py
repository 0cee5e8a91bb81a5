"""Mark killed runs as crashed: Prefect's history shows them as running, but the holder of the workspace's lock knows better.

In: the repository's root, with the lock held. Out: those runs and their tasks are Crashed. Only this workspace's own history
(var/prefect) is changed: a shared server monitors its runs itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run
from prefect.states import Crashed

from flows.processes import server


def mark_killed(root: Path) -> None:
    """Set every other run of the flow that is still Running to Crashed."""
    if os.environ.get("PREFECT_HOME") != str((root / server.HOME).resolve()):
        return
    flow = filters.FlowFilter(name=filters.FlowFilterName(any_=["retrain"]))
    running = filters.FlowRunFilterStateType(any_=[StateType.RUNNING])
    runs = filters.FlowRunFilter(state=filters.FlowRunFilterState(type=running))
    killed: State[Any] = Crashed(message="its process was killed")
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=flow, flow_run_filter=runs):
            if str(run.id) == flow_run.id:
                continue
            tasks = filters.TaskRunFilter(
                state=filters.TaskRunFilterState(type=filters.TaskRunFilterStateType(any_=[StateType.RUNNING]))
            )
            of_run = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[run.id]))
            for task in client.read_task_runs(flow_run_filter=of_run, task_run_filter=tasks):
                client.set_task_run_state(task.id, killed, force=True)
            client.set_flow_run_state(run.id, killed, force=True)
