"""Run the tool calls of one conversation within limits, each after a decision: the orchestrator.

In: a registry of declared tools, the documents to search, who calls, and who decides. Out: `GuardedTools`, which a session uses
like `assistant.tools.toolbox.Tools`, and a report of every call. A call passes, in this order: is there such a tool; calls and
seconds left; taint (service/tooling/taint.py); the Authorizer (action `use_tool`); then it runs, its text is checked as a tool
result, and if the tool's results are untrusted, the window is tainted. What is refused is a text for the model that begins with
`error: `.

Covers: every way to a tool that a session has, also searches that only look for a name. Memory, processes and network of a call are
bounded where the tool runs. Does not cover: calls that a client runs itself (direct mode).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from assistant.conversation.events import Message
from assistant.tools.tool_declaration import MAX_SHOWN, ToolDeclaration, read_argument
from assistant.tools.tool_registry import ToolRegistry
from assistant.tools.toolbox import (
    MAX_RESULT_CHARS,
    SEARCH_TOOL,
    AnswerAbortedError,
    Documents,
    LookedUp,
    OwnDocuments,
    Search,
    SearchResult,
    ToolOutput,
    Tools,
)
from service.access.caller import Caller
from service.answers.interfaces import Authorizer, ContentPolicy, Decision, Place
from service.service_error import ServiceError
from service.tooling.taint import KnownAnswers, Taint, find_taint

Verdict = Literal["ran", "refused", "failed", "withheld"]
TAINT_RULE = "tools:taint"
LIMIT_RULE = "tools:limits"
UNKNOWN_RULE = "tools:unknown"
_PASSAGE = re.compile(
    r"\[([^\[\]\n]+)\](?=\s)"
)  # `[title] text`, by which our searches show what may be quoted: nobody else may
WITHHELD = "error: the result was withheld by the content policy"


@dataclass(frozen=True)
class ToolBudget:
    """What the calls of one answer may take together. A session itself stops after three rounds (MAX_ROUNDS)."""

    max_calls: int = 8
    max_seconds: float = 60.0


@dataclass(frozen=True)
class ToolUse:
    """One call, for the journal and the audit log: who asked for which tool, what was decided by which rules, how it ended."""

    caller: Caller
    tool: str
    argument: str
    verdict: Verdict
    decided_by: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0
    tainted_by: tuple[str, ...] = ()


def ignore_use(_: ToolUse) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class ToolGuard:
    """Who calls, and who decides. `trusted_collections` hold only what the operator wrote: their passages do not taint."""

    caller: Caller
    authorizer: Authorizer
    profile: str = ""
    content: ContentPolicy | None = None
    budget: ToolBudget = ToolBudget()
    trusted_collections: frozenset[str] = frozenset()
    report: Callable[[ToolUse], None] = ignore_use
    known_answers: KnownAnswers = field(default_factory=KnownAnswers)
    clock: Callable[[], float] = field(default=time.monotonic)


class _RefusedError(Exception):
    """The call is refused by these rules; the message is the reason."""

    def __init__(self, rules: Sequence[str], reason: str) -> None:
        super().__init__(reason)
        self.rules = tuple(rules)


class GuardedTools(Tools):
    """The tools of one conversation, guarded. `taint` belongs to its window; call `begin_answer` before each answer."""

    def __init__(
        self,
        registry: ToolRegistry,
        documents: Documents | None,
        guard: ToolGuard,
        taint: Taint | None = None,
    ) -> None:
        super().__init__({each.name: each.call_with_text for each in registry if each.name != SEARCH_TOOL}, documents)
        self.registry, self.guard, self.taint = registry, guard, taint or Taint()
        self._may_search: bool | None = None
        self.begin_answer()

    def renew(self) -> GuardedTools:
        """Return the same tools for another answer."""
        return GuardedTools(self.registry, self.documents, self.guard, self.taint)

    def begin_answer(self) -> None:
        """Start the limits of an answer anew; the taint stays."""
        self._n_calls, self._started = 0, self.guard.clock()

    def read_history(self, messages: Sequence[Message]) -> None:
        """Taint the window by what a client's history holds."""
        known, tenant = self.guard.known_answers, self.guard.caller.tenant
        for source in find_taint(messages, self._is_trusted, lambda answer: known.has(tenant, answer)):
            self.taint.add(source)

    def end_answer(self, answer: str) -> None:
        """Remember an answer from a window without untrusted text, so that a history with it is trusted again."""
        if not self.taint.is_tainted:
            self.guard.known_answers.add(self.guard.caller.tenant, answer)

    def keep(self, names: Collection[str]) -> GuardedTools:
        """Return the tools that have one of these names, with the same guard and the same taint."""
        kept = ToolRegistry([each for each in self.registry if each.name in names])
        return GuardedTools(kept, self.documents if SEARCH_TOOL in names else None, self.guard, self.taint)

    def look_up(self, query: str) -> LookedUp:
        """Return how the documents know a name, if the caller may search them."""
        return super().look_up(query) if self._is_search_allowed() else LookedUp()

    def search(self, query: str, limit: int = 3) -> Search:
        """Search the documents for code that answers (a tutor's exercises): under the same rules, and it taints as much."""
        if not self._is_search_allowed():
            return Search(query, ())
        return self._check_search(super().search(query, limit))[0]

    def covers(self, question: str) -> bool:
        """Return whether a question may be about the user's documents, if the caller may search them."""
        return self._is_search_allowed() and super().covers(question)

    def run(self, name: str, argument: str, question: str = "") -> ToolOutput:
        """Decide about a call by its one string, run it, check its result. Raises: AnswerAbortedError only."""
        return self._perform(name, argument, question, None)

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolOutput:
        """Do the same for a call with any arguments, as other clients than our model make them."""
        shown = json.dumps(dict(arguments), ensure_ascii=False, default=str)
        return self._perform(name, shown, "", arguments)

    def _perform(self, name: str, argument: str, question: str, arguments: Mapping[str, Any] | None) -> ToolOutput:
        started = self.guard.clock()
        decided_by: tuple[str, ...] = ()
        reason = ""
        verdict: Verdict = "ran"
        try:
            decided_by = self._decide(name)
            output = self._execute(name, argument, question, arguments)
            if output.text.startswith("error: "):
                verdict = "failed"
            output, rules, is_withheld = self._check_result(name, output)
            decided_by, verdict = (*decided_by, *rules), "withheld" if is_withheld else verdict
        except _RefusedError as error:
            decided_by, reason, verdict = error.rules, str(error), "refused"
            output = ToolOutput(f"error: {error}")
        seconds = self.guard.clock() - started
        use = ToolUse(
            self.guard.caller, name, argument, verdict, decided_by, reason, seconds, tainted_by=self.taint.sources
        )
        self.guard.report(use)
        return replace(output, decided_by=decided_by)

    def _is_trusted(self, name: str) -> bool:
        """Return whether results of a tool are trusted wherever they come from; those of a search depend on the collection."""
        declaration = self.registry.get(name)
        if name == SEARCH_TOOL:
            return not isinstance(self.documents, OwnDocuments)
        return declaration is not None and declaration.is_trusted

    def _decide(self, name: str) -> tuple[str, ...]:
        """Return the rules that allow a call. Raises: _RefusedError."""
        if name not in self.names:
            raise _RefusedError(
                (UNKNOWN_RULE,), f"there is no tool {name[:MAX_SHOWN]!r}; there are {', '.join(self.names) or 'none'}"
            )
        budget = self.guard.budget
        self._n_calls += 1
        if self._n_calls > budget.max_calls:
            raise _RefusedError((LIMIT_RULE,), f"an answer may call tools {budget.max_calls} times; answer without")
        if self._get_seconds_left() <= 0:
            raise _RefusedError(
                (LIMIT_RULE,), f"the tools of an answer may take {budget.max_seconds:g} seconds; answer without"
            )
        declaration = self.registry.get(name)
        if declaration is not None and declaration.is_harmful and self.taint.is_tainted:
            effects = " and ".join(each for each in sorted(declaration.effects) if each != "reads")
            raise _RefusedError(
                (TAINT_RULE,),
                f"{name} {effects}, and this conversation holds {self.taint.sources[0]}; begin a new conversation",
            )
        return self._authorize(name, declaration)

    def _authorize(self, name: str, declaration: ToolDeclaration | None) -> tuple[str, ...]:
        effects = declaration.effects if declaration is not None else frozenset({"reads"})
        context = {
            "tool": name,
            "profile": self.guard.profile,
            "is_tainted": self.taint.is_tainted,
            **{each: each in effects for each in ("reads", "writes", "runs", "leaves")},
        }
        try:
            decision: Decision = self.guard.authorizer.authorize(self.guard.caller, "use_tool", name, context)
        except Exception as error:  # an authorizer that can't decide does not allow
            reason = error.message if isinstance(error, ServiceError) else type(error).__name__
            raise _RefusedError(("authorizer:error",), f"{name} is not allowed: {reason}") from error
        if not decision.is_allowed:
            raise _RefusedError(
                decision.rules, f"{name} is not allowed" + (f": {decision.reason}" if decision.reason else "")
            )
        return decision.rules

    def _get_seconds_left(self) -> float:
        return self.guard.budget.max_seconds - (self.guard.clock() - self._started)

    def _execute(self, name: str, argument: str, question: str, arguments: Mapping[str, Any] | None) -> ToolOutput:
        declaration = self.registry.get(name)
        try:
            if name == SEARCH_TOOL and self.documents is not None:
                query = argument if arguments is None else _read_query(arguments)
                search = self.documents.search(query, question=question)
                return ToolOutput(search.text[:MAX_RESULT_CHARS], search)
            assert declaration is not None  # _decide has seen it
            left = min(self._get_seconds_left(), declaration.limits.max_seconds)
            given = read_argument(declaration, argument) if arguments is None else arguments
            text = declaration.call(given, left)
        except AnswerAbortedError:  # a part of the service is down
            raise
        except (ValueError, ServiceError) as error:
            return ToolOutput(f"error: {error}"[:MAX_RESULT_CHARS])
        except (
            Exception
        ) as error:  # whatever a tool does wrong, the conversation continues; its message may hold secrets
            return ToolOutput(f"error: {name} failed ({type(error).__name__})")
        return ToolOutput(text[:MAX_RESULT_CHARS])

    def _check_result(self, name: str, output: ToolOutput) -> tuple[ToolOutput, tuple[str, ...], bool]:
        """Return what the model may read, the rules that say so, and whether something is withheld. Taints the window."""
        if output.search is not None:
            search, rules = self._check_search(output.search)
            is_withheld = len(search.results) < len(output.search.results)
            return replace(output, text=search.text[:MAX_RESULT_CHARS], search=search), rules, is_withheld
        if not self._is_trusted(name):
            self.taint.add(f"a result of {name}")
            output = replace(output, text=_PASSAGE.sub(r"(\1)", output.text))
        decision = self._check_text("tool_result", output.text)
        if decision is None or decision.action in ("allow", "flag"):
            return output, decision.rules if decision else (), False
        if decision.is_allowed:
            return replace(output, text=decision.text or ""), decision.rules, False
        return replace(output, text=WITHHELD), decision.rules, True

    def _check_search(self, search: Search) -> tuple[Search, tuple[str, ...]]:
        """Leave out the passages that are blocked, mask those that have to be; a masked one can't be quoted any more."""
        kept, rules = list[SearchResult](), dict[str, None]()
        for result in search.results:
            decision = self._check_text("passage", result.line)
            rules |= dict.fromkeys(decision.rules if decision else ())
            if decision is not None and not decision.is_allowed:
                continue
            is_masked = decision is not None and decision.action == "mask" and decision.text is not None
            kept.append(replace(result, line=decision.text) if is_masked and decision and decision.text else result)
            if result.collection and result.collection not in self.guard.trusted_collections:
                self.taint.add(f"a passage of the collection {result.collection}")
        return replace(search, results=tuple(kept)), tuple(rules)

    def _check_text(self, place: Place, text: str) -> Decision | None:
        if self.guard.content is None:
            return None
        try:
            return self.guard.content.check(self.guard.caller, place, text, self.guard.profile)
        except Exception as error:  # what can't be checked is not shown
            return Decision("block", ("content:error",), type(error).__name__)

    def _is_search_allowed(self) -> bool:
        if self._may_search is None:
            try:
                self._authorize(SEARCH_TOOL, self.registry.get(SEARCH_TOOL))
                self._may_search = self.documents is not None
            except _RefusedError:
                self._may_search = False
        return self._may_search


def _read_query(arguments: Mapping[str, Any]) -> str:
    query = arguments.get("query")
    if len(arguments) != 1 or not isinstance(query, str):
        raise ValueError(
            f"{SEARCH_TOOL} takes one text named query; found {', '.join(arguments)[:MAX_SHOWN] or 'nothing'}."
        )
    return query
