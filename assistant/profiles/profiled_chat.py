"""Build what a profile says for one conversation: its tools, its responders, its style."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from assistant.conversation.responder import Responder
from assistant.conversation.style import Style
from assistant.profiles.handover import Handover, get_handover_folder
from assistant.profiles.learner_log import LearnerLog, get_log_folder
from assistant.profiles.profile import Profile
from assistant.profiles.rules import ForbiddenTopics, ProfileRules
from assistant.profiles.tutor_exercises import TutorExercises
from assistant.tools.tool_requests import ToolRequests
from assistant.tools.toolbox import Tools


def read_clock() -> datetime:
    """Return the present time, in UTC."""
    return datetime.now(UTC)


def make_responders(
    profile: Profile,
    tools: Tools,
    learner: str,
    clock: Callable[[], datetime] = read_clock,
    others: Sequence[Responder] = (),
    log_folder: Path | None = None,
    handover_folder: Path | None = None,
) -> list[Responder]:
    """Return the responders of a profile, in their order: what is forbidden comes first, then `others`.
    The folders of learners' logs and of handovers are those of the environment by default.

    Raises: ValueError for a learner's name that can't be a file's, and for exercises without documents.
    """
    responders: list[Responder] = []
    if "handover" in profile.skills:
        is_here = handover_folder is None  # else the folder is a server's
        folder = handover_folder or get_handover_folder()
        responders.append(Handover(folder, profile.name, clock, shows_path=is_here))
    responders += [ForbiddenTopics(profile), ToolRequests(tools), *others]
    if "exercises" in profile.skills:
        if tools.documents is None:
            raise ValueError(
                "skills.exercises needs documents; found a profile without collections and documentation; name a collection."
            )
        log = LearnerLog(get_log_folder(profile.name, log_folder), learner)
        responders.append(TutorExercises(tools.search, log, clock))
    return [*responders, ProfileRules(profile, tools.covers)]


def make_style(profile: Profile) -> Style:
    """Return how the answers of a profile are presented."""
    return Style(profile.render(profile.tone.opening), profile.tone.max_sentences)


def describe_profile(profile: Profile) -> str:
    """Return a profile in lines for the screen."""
    lines = [f"{profile.name}: answers from {', '.join(profile.collections) or 'no collection'}"]
    if profile.documentation:
        lines[0] += " and the documentation"
    lines.append(f"tools: {', '.join(profile.tools) or 'none'}; grounding: {profile.grounding}")
    if profile.policy.forbidden:
        lines.append("not answered: " + ", ".join(word for topic in profile.policy.forbidden for word in topic.words))
    lines += [f"for example: {example}" for example in profile.examples]
    return "\n".join(lines)
