"""The flow: run every stage that has changed, then publish, gate and promote. `python -m flows retrain` starts it.

In: the repository in the current folder. Out: the outputs of the stages and the registry; in Prefect one task per stage (its
output as logs, unchanged ones `Cached`, with the edges of dvc.yaml), a table of the run and the report as artifacts. A refusal by
the gate is not a failure: the flow ends as `Refused`. Prefect only keeps the record: a run whose server dies goes on without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any, NoReturn

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed

from flows.processes import server, workspace
from flows.steps import history
from flows.steps.sequence import (
    BUSY,
    REPORT,
    RETRY_SECONDS,
    STOPPED,
    FlowRun,
    StepResult,
    Terminal,
    list_changed_stages,
    run_all,
)


class PrefectJournal:
    """A journal that records each step as a task of the current flow run, until Prefect's server is lost.

    `find_loss` returns why it is lost, or "".
    """

    def __init__(self, find_loss: Callable[[], str]) -> None:
        self.find_loss, self.is_lost = find_loss, False
        self.states: dict[str, State[Any]] = {}
        self.terminal = Terminal()
        self.logger: Any = None  # of the step that runs: what it prints while it is stopped comes from another thread

    def run_step(self, name: str, work: Callable[[], StepResult], needed: Set[str]) -> StepResult:
        """Run `work` as a task that follows those of the steps `needed`, or without Prefect if its server is lost."""
        results: list[StepResult] = []

        def run_work() -> State[Any]:
            self.logger = get_run_logger()
            results.append(work())
            return make_state(results[-1])

        if not self.is_lost and (reason := self.find_loss()):
            self.lose(reason)
        if not self.is_lost:
            self._run_task(name, run_work, [self.states[step] for step in sorted(needed) if step in self.states])
        return results[-1] if results and not self._must_retry(results) else self.terminal.run_step(name, work, needed)

    def _must_retry(self, results: list[StepResult]) -> bool:
        """Return whether the server was lost between two tries."""
        return self.is_lost and results[-1].name == BUSY

    def _run_task(self, name: str, work: Callable[[], State[Any]], needed: list[State[Any]]) -> None:
        recorded = task(
            name=name,
            task_run_name=name,
            retries=len(RETRY_SECONDS),
            retry_delay_seconds=RETRY_SECONDS,
            retry_condition_fn=is_busy,
        )(work)
        try:
            self.states[name] = recorded(return_state=True, wait_for=needed)
        except Exception as error:  # of Prefect: what `work` raises is in the state
            self.lose(describe(error))

    def lose(self, reason: str) -> None:
        """Go on without Prefect, and say why."""
        self.is_lost = True
        self.log("retrain", f"Prefect's server is lost ({reason}): going on without it", logging.WARNING)

    def log(self, name: str, text: str, level: int = logging.INFO) -> None:
        """Log a line to the run, whose records have the attribute `stage`: these are shown in the console."""
        if self.is_lost or self.logger is None:
            self.terminal.log(name, text, level)
            return
        logger = self.logger
        type(logger)(logger.logger, {**(logger.extra or {}), "stage": name}).log(level, "%s", text)

    def attempt(self, work: Callable[[], object]) -> None:
        """Record something at Prefect's server, unless that is lost."""
        if self.is_lost:
            return
        try:
            work()
        except Exception as error:
            self.lose(describe(error))


@flow(name="retrain", validate_parameters=False)
def retrain(register: bool = True) -> State[Any]:
    """Run the stages that have changed, then (with `register`) publish, judge and promote the model."""
    root = Path.cwd()
    try:
        with workspace.hold(root) as lock:
            journal = PrefectJournal(lambda: server.find_loss(None, f"{PREFECT_API_URL.value()}/health"))
            run = FlowRun(root, lock, journal, list_changed_stages(root))
            return make_state(_run_recorded(run, journal, register))
    except workspace.WorkspaceBusyError as error:
        return Failed(name=STOPPED, message=f"retrain: {error}")


def retrain_here(
    run: FlowRun, journal: PrefectJournal, register: bool, leave: Callable[[StepResult], NoReturn]
) -> StepResult:
    """Run the flow in this process, which holds the workspace's lock; return its result.

    If Prefect's server is lost, end with `leave` instead: what Prefect still tries to send would take minutes.
    """
    ended: list[StepResult] = []
    logging.raiseExceptions = False  # else lines that a lost server does not take are announced on the terminal

    def retrain(register: bool) -> State[Any]:
        ended.append(_run_recorded(run, journal, register))
        if journal.is_lost:
            leave(ended[-1])
        return make_state(ended[-1])

    try:
        state = flow(name="retrain", validate_parameters=False)(retrain)(register=register, return_state=True)
    except Exception as error:  # of Prefect: what the flow raises is in the state
        journal.lose(describe(error))
        leave(ended[-1] if ended else run_all(run, register))
    if not ended:
        state.result()  # not the result of a step but a bug: it raises, with a traceback
    return ended[-1]


def _run_recorded(run: FlowRun, journal: PrefectJournal, register: bool) -> StepResult:
    journal.attempt(lambda: history.mark_killed(run.root))
    ended = run_all(run, register)
    journal.attempt(lambda: publish_artifacts(run))
    return ended


def publish_artifacts(run: FlowRun) -> None:
    """Publish the table and the report to Prefect's UI."""
    create_table_artifact(table=run.rows, key="retrain", description="Every step of the run")
    if (path := run.root / REPORT).exists():
        create_markdown_artifact(markdown=path.read_text(encoding="utf-8"), key="report", description=str(path))


def make_state(result: StepResult) -> State[Any]:
    """Return Prefect's state for a result."""
    return (Completed if result.is_completed else Failed)(name=result.name, message=result.message)


def is_busy(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Return whether a failure is transient, hence retried: another process holds a lock."""
    return state.name == BUSY


def describe(error: Exception) -> str:
    """Return the first line of an error, or its type."""
    return str(error).partition("\n")[0] or type(error).__name__
