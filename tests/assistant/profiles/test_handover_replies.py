"""What the user hears about a handover depends on whose machine it is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.conversation.events import Message, TextPiece
from assistant.profiles.handover import Handover

ASKED = [Message.of("user", "I want to talk to a person")]


def reply(folder: Path, *, shows_path: bool) -> str:
    handover = Handover(folder, "Support", lambda: datetime(2026, 11, 30, tzinfo=UTC), shows_path=shows_path)
    [piece] = handover.respond(ASKED) or []
    assert isinstance(piece, TextPiece)
    return piece.text


@pytest.mark.parametrize("is_writable", [True, False])
def test_a_server_does_not_say_where_its_files_are(tmp_path: Path, is_writable: bool) -> None:
    folder = tmp_path / "handovers"
    if not is_writable:
        folder.write_text("a file where the folder should be")
    text = reply(folder, shows_path=False)
    assert "hand over" in text
    assert str(tmp_path) not in text
    assert str(tmp_path) in reply(folder, shows_path=True)
