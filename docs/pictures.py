"""Make the README's pictures from a finished run: `python docs/pictures.py` (needs Chromium and the champion).

In: the champion (var/champion) and var/report.html. Out: docs/images/chat.svg, a conversation with `python -m assistant`, and
docs/images/report.png, the first screen of the report.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
QUESTIONS = (
    "Who are you?",
    "What does numpy.linalg.norm do?",
    "And in scipy?",
    "What is 12 * 7.5?",
    "26.2 miles in km",
    "What will the weather be tomorrow?",
)
CHROMIUM = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
)


def ask(questions: tuple[str, ...]) -> list[str]:
    """Return the assistant's answers, one per question, in one conversation."""
    command = [sys.executable, "-m", "assistant"]
    done = subprocess.run(
        command, input="\n".join(questions) + "\n", cwd=ROOT, capture_output=True, text=True, check=True
    )
    answers = done.stdout.strip().splitlines()
    if len(answers) != len(questions):
        raise SystemExit(f"docs/pictures.py: an answer per question is needed, found {answers}")
    return answers


def draw_chat(path: Path) -> None:
    """Write the conversation as an SVG of a terminal."""
    console = Console(record=True, width=92, file=io.StringIO())
    console.print(Text("$ make chat", style="dim"))
    for question, answer in zip(QUESTIONS, ask(QUESTIONS), strict=True):
        console.print(Text(f"› {question}", style="bold"))
        console.print(Text(answer), soft_wrap=False)
    console.save_svg(str(path), title="MiniGPT")


def draw_report(path: Path) -> None:
    """Write a screenshot of the top of the report."""
    page = (ROOT / "var" / "report.html").as_uri()
    subprocess.run(
        [*CHROMIUM, f"--screenshot={path}", "--window-size=1100,1000", page], check=True, capture_output=True
    )


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    draw_chat(IMAGES / "chat.svg")
    draw_report(IMAGES / "report.png")
