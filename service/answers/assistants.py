"""Build the session that answers a request: engine, tools, profile, memory and, for a conversation, what it has so far.

In: an answer request. Out: a `Session` and the message that it answers. Documents are opened once per tenant and profile. The state
of named conversations (evidence, citations, cached prefixes) is kept for the last `n_sessions`; one that was dropped continues
from the messages of the request. Sessions of requests without a conversation depend on their messages alone.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from assistant.conversation.events import Engine, Message
from assistant.conversation.responder import Responder
from assistant.conversation.session import Grounding, Session
from assistant.inference.model_choice import ModelChoice
from assistant.memory.memory_store import MemoryStore
from assistant.memory.opening import load_measure
from assistant.memory.remembering import Remembering
from assistant.profiles.profile import Profile, list_profiles, load_profile
from assistant.profiles.profiled_chat import make_responders, make_style, read_clock
from assistant.tools.toolbox import TOOLS, Documents, Tools, make_tools
from service.access.caller import Caller
from service.access.tenant_files import TenantFiles
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import Inference
from service.service_error import ServiceError

_LOG = logging.getLogger(__name__)
# Makes the tools of a request: limits, rights, checks. The third argument are those of the conversation so far, if there are any.
WrapTools = Callable[[Tools, AnswerRequest, Tools | None], Tools]
OpenDocuments = Callable[[str, tuple[str, ...], bool], Documents | None]  # of (tenant, collections, has_documentation)


def keep_tools(tools: Tools, request: AnswerRequest, previous: Tools | None) -> Tools:
    """Return the tools as they are."""
    return tools


@dataclass
class _Kept:
    """The session of a conversation, and the messages that it has seen, as its client knows them."""

    session: Session
    seen: tuple[tuple[str, str], ...] = ()


@dataclass
class SessionStore:
    """The sessions of the last conversations, each taken out while it answers. Thread-safe."""

    size: int
    _kept: OrderedDict[tuple[str, ...], _Kept] = field(default_factory=OrderedDict[tuple[str, ...], _Kept])
    _lock: Lock = field(default_factory=Lock)

    def take(self, key: tuple[str, ...], seen: tuple[tuple[str, str], ...]) -> Session | None:
        """Return the session that has seen just these messages, if there is one, and forget it."""
        with self._lock:
            kept = self._kept.pop(key, None)
        return kept.session if kept is not None and kept.seen == seen else None

    def put(self, key: tuple[str, ...], session: Session, seen: tuple[tuple[str, str], ...]) -> None:
        """Keep a session; the one that was used longest ago is dropped for it."""
        with self._lock:
            self._kept[key] = _Kept(session, seen)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)

    def drop(self, tenant: str, user: str = "") -> None:
        """Forget the conversations of a tenant, or of one of its users."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == tenant and user in ("", key[1])]:
                del self._kept[key]


class Assistants:
    """Makes sessions. Thread-safe. Raises: ValueError for damaged folders and profiles, when they are first used."""

    def __init__(
        self,
        inference: Inference,
        choice: ModelChoice | None,
        files: TenantFiles,
        *,
        profiles: Path | None = None,
        n_sessions: int = 256,
        wrap_tools: WrapTools = keep_tools,
        open_documents: OpenDocuments | None = None,
        tool_names: Collection[str] | None = None,
    ) -> None:
        """`open_documents`: where documents are in another process; by default those of `choice` and `files` are opened here.
        `tool_names`: what profiles may list (default: what the model was trained to call)."""
        self._tool_names = tool_names
        self.inference, self._choice, self._files, self._folder = inference, choice, files, profiles
        self._wrap_tools, self.sessions = wrap_tools, SessionStore(n_sessions)
        self._open_documents = open_documents or self.open_documents
        self._tools: dict[tuple[str, str], Tools] = {}
        self._lock = Lock()
        self._measure = load_measure(choice.embed if choice is not None else None)

    def list_profiles(self) -> list[str]:
        """Return the names of all profiles, those that ship and those of the folder."""
        own = [path.stem for path in self._folder.glob("*.yaml")] if self._folder is not None else []
        return sorted({*list_profiles(), *own})

    def load_profile(self, name: str) -> Profile | None:
        """Return a profile, None for the empty name. Raises: ServiceError 404."""
        if not name:
            return None
        if name not in self.list_profiles():
            known = ", ".join(self.list_profiles())
            message = f"there is no profile {name[:80]!r}; found {known}; use one of them behind the slash."
            raise ServiceError(404, f"model: {message}", code="model_not_found", param="model")
        own = self._folder / f"{name}.yaml" if self._folder is not None else None
        return load_profile(str(own) if own is not None and own.is_file() else name, self._tool_names)

    def get_tools(self, tenant: str, profile_name: str, profile: Profile | None) -> Tools:
        """Return the tools of a tenant's profile, over its collections."""
        key = (tenant, profile_name)
        with self._lock:
            if key not in self._tools:
                self._tools[key] = self._open_tools(tenant, profile)
            return self._tools[key]

    def open_session(self, request: AnswerRequest) -> Session:
        """Return a session whose history ends with the last message of the request."""
        key = (request.caller.tenant, request.caller.user, request.profile, request.conversation)
        if request.conversation:
            before = _list_texts(request.messages[:-1])
            if (session := self.sessions.take(key, before)) is not None:
                session.history.append(request.messages[-1])
                session.tools = self._make_tools(request, session.tools)
                session.engine = self._get_engine(request)  # of the version that is served now
                return session
        return self._make_session(request)

    def keep_session(self, request: AnswerRequest, session: Session, answer: str) -> None:
        """Keep the session of a named conversation for its next message."""
        session.tools.end_answer(answer)
        if request.conversation:
            key = (request.caller.tenant, request.caller.user, request.profile, request.conversation)
            self.sessions.put(key, session, (*_list_texts(request.messages), ("assistant", answer)))

    def _make_session(self, request: AnswerRequest) -> Session:
        profile = self.load_profile(request.profile)
        tools = self._make_tools(request, None)
        prompts = [message.text for message in request.messages if message.role == "system"]
        history = [message for message in request.messages if message.role != "system"]
        if profile is not None and profile.system_prompt:
            prompts.insert(0, profile.render(profile.system_prompt))
        return Session(
            self._get_engine(request),
            tools,
            system="\n".join(prompts),
            history=history,
            grounded=profile.grounding if profile is not None else Grounding.PREFER,
            responders=self._make_responders(request, profile, tools),
            style=make_style(profile) if profile is not None else None,
        )

    def forget_tenant(self, tenant: str) -> None:
        """Forget the conversations and the open documents of a tenant that is removed."""
        self.sessions.drop(tenant)
        with self._lock:
            for key in [key for key in self._tools if key[0] == tenant]:
                del self._tools[key]

    @property
    def has_documentation(self) -> bool:
        """Whether the version that answers has an index."""
        return self._choice is not None and self._choice.index is not None

    def replace_version(self, choice: ModelChoice) -> None:
        """Answer from the documents of another version from now on."""
        measure = load_measure(choice.embed)
        with self._lock:
            self._choice, self._measure = choice, measure
            self._tools.clear()

    def _get_engine(self, request: AnswerRequest) -> Engine:
        profile = self.load_profile(request.profile)
        return self.inference.get_engine(request.caller.tenant, (profile.adapter or "") if profile is not None else "")

    def _make_tools(self, request: AnswerRequest, previous: Tools | None) -> Tools:
        profile = self.load_profile(request.profile)
        return self._wrap_tools(self.get_tools(request.caller.tenant, request.profile, profile), request, previous)

    def _make_responders(self, request: AnswerRequest, profile: Profile | None, tools: Tools) -> list[Responder]:
        remembering = self._open_memory(request.caller, request.conversation)
        others: list[Responder] = [] if remembering is None else [remembering]
        if profile is None:
            return others
        learner = self._files.get_user_name(request.caller)
        folders = self._files.get_profile_folders(request.caller)
        return make_responders(profile, tools, learner, others=others, **folders)

    def _open_memory(self, caller: Caller, conversation: str) -> Remembering | None:
        """Return the memory of the person, in named conversations only: other requests leave nothing behind."""
        if not conversation:
            return None
        try:
            store = MemoryStore(self._files.get_memory_file(caller))
        except ValueError as error:  # it names the file, which is the operator's business
            _LOG.error("%s", error)
            message = "memory: can't be used; found its file locked, damaged or without room; try again, or tell the operator."
            raise ServiceError(503, message, code="memory_unavailable", retry_after=1.0) from error
        return Remembering(store, self._measure, conversation, read_clock)

    def open_documents(self, tenant: str, collections: tuple[str, ...], has_documentation: bool) -> Documents | None:
        """Open the documents of a tenant in this process. Raises: ValueError for damaged ones."""
        choice = self._choice
        index, embed = (choice.index if has_documentation else None, choice.embed) if choice else (None, None)
        return make_tools(
            index, embed, collections, collections_folder=self._files.get_collections_folder(tenant)
        ).documents

    def _open_tools(self, tenant: str, profile: Profile | None) -> Tools:
        has_documentation = profile is None or profile.documentation
        names = tuple(profile.collections) if profile is not None else ()
        tools = Tools(TOOLS, self._open_documents(tenant, names, has_documentation))
        return tools.keep(profile.tools) if profile is not None else tools


def _list_texts(messages: tuple[Message, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, message.text) for message in messages)
