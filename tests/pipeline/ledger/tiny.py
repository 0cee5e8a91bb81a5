"""A repository with Git, DVC and the stages from download to shard over a few hundred generated documents."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.ledger.__main__ import main as ledger_main
from tests.conftest import ROOT, call_main, new_workspace, read_yaml

STAGES = ("download", "dedupe", "filter", "train_tokenizer", "shard")
WORDS = """
the of and to in that it was for on are with as they be at one have this from by hot word but what some is you or had
river mountain winter letter garden window bridge morning paper silver market summer teacher village kitchen engine
water letter number people right sound place years after thing every good sentence great through much before line
"""


def sentence(rng: random.Random) -> str:
    return (" ".join(rng.choices(WORDS.split(), k=rng.randint(8, 14))) + ".").capitalize()


def paragraph(seed: int, n_sentences: int = 12) -> str:
    rng = random.Random(seed)
    return " ".join(sentence(rng) for _ in range(n_sentences))


def document(number: int, text: str | None = None, **columns: str) -> dict[str, str]:
    url = f"https://site{number % 7}.example.org/page/{number}"
    row = {"text": text or paragraph(number), "title": f"Page {number}", "url": url, "license": "CC0-1.0"}
    return row | columns


class TinyRepo:
    """A repository in `root`; its documents are read from inbox/pages.jsonl, which no stage writes."""

    def __init__(self, root: Path, documents: list[dict[str, str]]) -> None:
        self.root = new_workspace(root)
        for path in (root / "data/seed/languages").glob("[!def]*.txt"):
            path.unlink()  # eleven languages train in a third of the time
        self.params = read_yaml(root / "params.yaml")
        columns = {f"{name}_column": name for name in ("title", "url", "license")}
        source = {"kind": "text", "name": "pages", "path": "inbox/*.jsonl", **columns}
        self.params["download"]["sources"] = [source]
        self.params["train_tokenizer"] |= {"vocab_size": 400, "sample_bytes": 100_000}
        quick = {"n_epochs": 4, "n_spans": 0, "n_mixed": 0, "keep_weight": 1, "n_buckets": 20_000}
        self.params["filter"]["language"] |= quick  # accurate enough for plain English
        self.write_params()
        self.write(documents)
        graph = read_yaml(ROOT / "dvc.yaml")["stages"]
        for stage in graph.values():
            stage["deps"] = [dep for dep in stage["deps"] if dep.startswith("data/") and dep != "data/raw"]
        graph["download"]["deps"].append("inbox")
        with (root / "dvc.yaml").open("w") as file:
            YAML(typ="safe").dump({"stages": {name: graph[name] for name in STAGES}}, file)
        (root / ".gitignore").write_text("data/*/\n!data/metrics/\n!data/seed/\ninbox\nscratch\nvar\n")
        self.git("init", "-q", "-b", "main")
        self.python("dvc", "init", "-q")
        (root / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
        self.commit("A repository")

    def write(self, documents: list[dict[str, str]]) -> None:
        (self.root / "inbox").mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in documents)
        (self.root / "inbox/pages.jsonl").write_text(lines)

    def write_params(self) -> None:
        with (self.root / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(self.params, file)

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "DVC_", "MLFLOW_"))}
        who = {f"GIT_{role}_{what}": f"{value}" for role in ("AUTHOR", "COMMITTER") for what, value in WHO.items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return {**kept, **who, "PATH": path, "PYTHONPATH": str(ROOT), "MINIGPT_ENGINE": "serial"}

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def python(self, module: str, *arguments: str, code: int = 0) -> str:
        return self.run(sys.executable, "-m", module, *arguments, code=code)

    def ledger(self, *arguments: str, code: int = 0) -> str:
        return call_main(ledger_main, *arguments, folder=self.root, environment=self.environment(), code=code)

    def repro(self) -> None:
        self.python("dvc", "repro", "-q")

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def metrics(self, stage: str) -> Any:
        return json.loads((self.root / f"data/metrics/{stage}.json").read_text())


WHO = {"NAME": "Ada Example", "EMAIL": "ada@example.org"}
