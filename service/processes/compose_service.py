"""Put the parts of a service together: settings and a model in, a `Service` with all its rooms out.

The database is opened first, since keys, journal and feedback are in it. What is missing is said on the terminal: a guard, vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from assistant.guard.masking import PersonalMasker
from assistant.inference.model_choice import ModelChoice
from assistant.tools.toolbox import Tools
from service.access import key_routes
from service.access.authentication import Authenticator
from service.access.limiter import QuotaLimiter, open_counters
from service.access.quota import Quota
from service.access.tenant_files import TenantFiles
from service.answers.answer_request import AnswerRequest
from service.answers.answering import Answering, AnswerParts
from service.answers.assistants import Assistants
from service.answers.interfaces import AnswerRecorder, Inference
from service.api.all_routes import make_routers
from service.database.database import Database, choose_url
from service.feedback import feedback_routes
from service.feedback.feedback_store import FeedbackStore
from service.inference.local_inference import ChampionWatch, LocalInference
from service.journal import journal_routes
from service.journal.answer_journal import AnswerJournal, open_journal
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditLog
from service.journal.recorded_decisions import RecordedAuthorizer
from service.observability import metrics_routes
from service.observability.prometheus_recorder import PrometheusRecorder
from service.observability.trace_export import make_mlflow_processor, make_otlp_processor
from service.observability.trace_recorder import TraceRecorder
from service.page import page_data_routes, page_routes
from service.policy.cedar_authorizer import CedarAuthorizer
from service.policy.content_checker import ContentChecker, Masker
from service.policy.policy_store import PolicyStore
from service.processes.remote_parts import RemoteParts
from service.processes.version_parts import VersionParts, follow_swaps, watch_champion
from service.service_parts import Service
from service.service_settings import ServiceSettings
from service.tooling.protocol import mcp_routes
from service.tooling.protocol.exposed_tools import ExposedTools
from service.tooling.tool_settings import choose_tools_file, load_tool_settings
from service.tooling.tooling import Tooling

N_WORKERS = 32  # threads for sessions and database calls; they wait for the engine thread most of the time


@dataclass
class Composition:
    """A service with what has to be closed after it. `notes` are for the terminal: what is missing."""

    service: Service
    database: Database
    access: Authenticator
    policies: PolicyStore
    journal: AnswerJournal
    stack: ExitStack
    notes: list[str] = field(default_factory=list[str])

    def close(self) -> None:
        """Write what is waiting and close everything, the last one first."""
        self.stack.close()


def compose(
    settings: ServiceSettings,
    choice: ModelChoice | None,
    open_inference: Callable[[], Inference],
    remote: RemoteParts | None = None,
) -> Composition:
    """Open all parts but those that are remote.

    Raises: ValueError or ServiceError for settings, folders and databases that can't be used.
    """
    remote = remote or RemoteParts()
    with ExitStack() as stack:
        database = Database.open(choose_url(settings.state, settings.database))
        stack.callback(database.close)
        access = Authenticator(database, trusted_proxies=settings.trusted_proxies)
        stack.callback(access.close)
        policies = PolicyStore(settings.policies)
        stack.callback(policies.follow())
        inference = open_inference()
        notes: list[str] = []
        if isinstance(inference, LocalInference):
            stack.callback(inference.close)
        version = VersionParts.load(choice)
        notes += version.notes
        masker: Masker | None = PersonalMasker()
        authorizer = CedarAuthorizer(policies)
        content = ContentChecker(policies, version.guard, masker)
        files = TenantFiles(settings.state)
        journal = open_journal(
            database,
            settings.state,
            policies,
            lambda: inference.description,
            masker,
            lambda name: _hash_profile(assistants, name),
        )
        stack.callback(journal.writer.close)
        tooling = Tooling(load_tool_settings(choose_tools_file(settings)), settings.state, remote.registry)
        stack.callback(tooling.close)
        notes += [f"{name}: {problem}" for name, problem in tooling.find_problems().items()]

        def wrap_tools(tools: Tools, request: AnswerRequest, previous: Tools | None) -> Tools:
            guarded = tooling.make_tools(
                tools,
                request.caller,
                authorizer,
                profile=assistants.load_profile(request.profile),
                profile_name=request.profile,
                content=content,
                report=lambda use: journal.observe(request, use),
                previous=previous,
            )
            guarded.read_history(request.messages)
            return guarded

        assistants = Assistants(
            inference,
            choice,
            files,
            profiles=settings.profiles,
            n_sessions=settings.sessions,
            wrap_tools=wrap_tools,
            open_documents=remote.open_documents,
            tool_names=tooling.names,
        )
        for name in assistants.list_profiles():
            assistants.load_profile(name)  # what is wrong with one is an error now, not of its first request
        metrics = PrometheusRecorder(inference.description)
        traces = _open_traces(settings, inference)
        recorders: list[AnswerRecorder] = [journal, metrics]
        if traces is not None:
            recorders.append(traces)
            stack.callback(traces.close)
        workers = ThreadPoolExecutor(N_WORKERS, thread_name_prefix="answer")
        stack.callback(workers.shutdown, wait=False, cancel_futures=True)
        limiter = QuotaLimiter(
            open_counters(settings.counters),
            access.get_quota,
            lambda tenant: Quota.from_json(policies.get(tenant).rules.limits.model_dump()),
        )
        parts = AnswerParts(
            assistants, workers, authorizer, content, limiter, tuple(recorders), settings.slots + settings.queue
        )
        answering = Answering(parts)
        store = FeedbackStore(database, lambda text: masker.mask(text, ("*",))[0])

        def find_problems() -> dict[str, str]:
            problems = {"journal": journal.writer.problem}
            problems["draining"] = "the service is shutting down" if answering.is_draining else ""
            problems |= remote.find_problems()
            return {part: problem for part, problem in problems.items() if problem}

        def list_notices() -> dict[str, str]:
            # The service stays ready, because others are served meanwhile. Anybody may read this: it names no tenant.
            refused = "files are refused: see the log or the operator's page" if policies.list_problems() else ""
            newest = watch.problem if watch is not None else ""
            notices = {"policies": refused, "champion": newest}
            return {**{name: text for name, text in notices.items() if text}, **tooling.list_notices()}

        watch: ChampionWatch | None = None
        recorded = RecordedAuthorizer(authorizer, journal)
        extras: dict[str, Any] = {
            "authenticate": access.authenticate_request,
            "access": access,
            "authorizer": recorded,
            "metrics": metrics.render,
            "readiness": find_problems,
            "notices": list_notices,
            "feedback": feedback_routes.FeedbackParts(store=store, authorizer=recorded, traces=traces),
            "database": database,
            "files": files,
            "list_users": lambda tenant: {key.grant.user for key in access.keys.list_keys(tenant)},
            "journal": journal_routes.JournalParts(
                journal, AuditLog(database, AuditHeads(settings.state / "audit")), policies, authorizer
            ),
            "policies": policies,
        }
        if version.vectors is not None:
            extras["vectors"] = version.vectors
        if isinstance(inference, LocalInference) and choice is not None:
            follow_swaps(inference, assistants, content, extras, metrics.describe)
            watch = watch_champion(inference, choice)
            if watch is not None:
                stack.callback(watch.close)
        documents = remote.open_documents or assistants.open_documents
        exposed = ExposedTools(tooling, authorizer, content, files, documents, journal.record)
        routers = (
            *make_routers(),
            mcp_routes.make_router(inference.description.version, exposed.get_tools, limiter),
            metrics_routes.make_router(),
            key_routes.make_router(),
            feedback_routes.make_router(),
            journal_routes.make_router(),
            page_routes.make_router(),
            page_data_routes.make_router(),
        )
        service = Service(settings, inference, assistants, answering, routers, extras, (limiter.close,))
        return Composition(service, database, access, policies, journal, stack.pop_all(), notes)


def _open_traces(settings: ServiceSettings, inference: Inference) -> TraceRecorder | None:
    if not settings.otlp and not settings.mlflow:
        return None
    processors = [make_otlp_processor(settings.otlp)] if settings.otlp else []
    mlflow = make_mlflow_processor(settings.mlflow) if settings.mlflow else None
    return TraceRecorder(inference, processors, mlflow, settings.trace_frac)


def _hash_profile(assistants: Assistants, name: str) -> str:
    profile = assistants.load_profile(name)
    return hashlib.sha256(profile.model_dump_json().encode()).hexdigest()[:16] if profile is not None else ""
