"""A repository with two fast stages, for tests of the registry and the flow. `knobs.json` sets how good the model is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.ledger.__main__ import main as ledger_main
from tests.conftest import ROOT, call_main
from tests.zygote import run_module

DVC_YAML = """
stages:
  evaluate:
    cmd: python make.py evaluate
    deps: [make.py, data/sft]
    params: [evaluate]
    outs: [data/evaluate]
    metrics: [data/metrics/evaluate.json: {cache: false}]
  sft:
    cmd: python make.py sft
    deps: [make.py, knobs.json]
    outs: [data/sft, data/index, data/embed, data/guard]
    metrics: [data/metrics/sft.json: {cache: false}]
"""

MAKE = """
import json, pathlib, sys, time
import pyarrow as pa, pyarrow.parquet as pq
stage = sys.argv[1]
out = pathlib.Path("data", stage)
out.mkdir(parents=True)
pathlib.Path("data/metrics").mkdir(exist_ok=True)
metrics = pathlib.Path("data/metrics", stage + ".json")
knobs = json.loads(pathlib.Path("knobs.json" if stage == "sft" else "data/sft/config.json").read_text())
if stage == "sft":
    if knobs.get("error"):
        print("error: sft.training.seed: too lucky\\n  found: 13\\n  to do: take another one", file=sys.stderr)
        sys.exit(1)
    if knobs.get("until"):
        pathlib.Path("var/stage.pid").touch()
        while not pathlib.Path(knobs["until"]).exists():
            time.sleep(0.05)
    print("sft: [###] 100 %", flush=True)
    (out / "config.json").write_text(json.dumps(knobs))
    (out / "model.safetensors").write_bytes(b"weights")
    index = pathlib.Path("data/index")
    index.mkdir()
    (index / "sections.arrow").write_text("sections of " + knobs["answer"])
    embed = pathlib.Path("data/embed")
    embed.mkdir()
    (embed / "vectors.arrow").write_text("vectors of " + knobs["answer"])
    guard = pathlib.Path("data/guard")
    guard.mkdir()
    (guard / "guard.safetensors").write_text("guard of " + knobs["answer"])
    rows = [{"step": step, "loss_nats": 5.0 - step, "note": "text"} for step in range(3)]
    (out / "history.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    metrics.write_text(json.dumps({"steps": 3}))
else:
    n = 60
    sizes = [100 + 7 * (i * 37 % 50) for i in range(n)]
    noise = [((i * 7919 + knobs["seed"] * 104729) % 1000 / 500 - 1) * 20 for i in range(n)]
    nats = [size * knobs["bpb"] * 0.6931 + noise[i] for i, size in enumerate(sizes)]
    bits = [each / 0.6931 for each in nats]
    columns = {"metric": ["bpb"] * n, "id": [f"{i:032x}" for i in range(n)], "group": [""] * n, "score": bits}
    columns |= {"size": [float(size) for size in sizes], "is_baseline": [False] * n}
    columns |= {name: [""] * n for name in ("prompt", "answer", "expected")}
    pq.write_table(pa.table(columns), out / "items.parquet")
    value = sum(bits) / sum(sizes)
    figure = {"task": "bits_per_byte", "metric": "bpb", "title": "Bits per byte", "meaning": "", "value": value, "se": 0.01}
    figures = [figure | {"n": n, "is_lower_better": True, "baselines": []}]
    (out / "figures.json").write_text(json.dumps(figures))
    (out / "composition.json").write_text(json.dumps({"documents": [], "conversations": []}))
    metrics_out = {"bpb": sum(bits) / sum(sizes), "bpb_se": 0.01, "n_heldout_docs": n, "leaked_items_frac": 0}
    metrics_out |= {"user_turns_acceptable_frac": 0.5, "user_turns_acceptable_frac_se": 0.02, "n_user_turns": n}
    for name in knobs["skills"]:
        metrics_out |= {name: 1.0, name + "_se": 0.01, "n_heldout_" + name.removesuffix("_frac"): n}
    metrics.write_text(json.dumps(metrics_out | knobs.get("metrics", {})))
"""

AGENT = """
from mlflow.models import set_model
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentResponse
from model.answer import answer

class Agent(ResponsesAgent):
    def load_context(self, context):
        self.folder, *self.folders = (context.artifacts[name] for name in ("model", "index", "embed", "guard"))

    def predict(self, request):
        item = self.create_text_output_item(text=answer(self.folder, *self.folders), id="1")
        return ResponsesAgentResponse(output=[item])

set_model(Agent())
"""

ANSWER = """
import json, pathlib

def answer(folder, *parts):
    files = [path.name for part in parts for path in pathlib.Path(part).iterdir()]
    assert files == ["sections.arrow", "vectors.arrow", "guard.safetensors"]
    return json.loads(pathlib.Path(folder, "config.json").read_text())["answer"]
"""


# The pipeline runs with this package before the real one on the path, and needs modules of both.
MODEL = """
from pkgutil import extend_path
__path__ = extend_path(__path__, __name__)
"""


class FakeRepo:
    """A folder with the files that the registry and the flow read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skills = _policy_skills()
        files = {
            "dvc.yaml": DVC_YAML,
            "make.py": MAKE,
            "assistant/__init__.py": "",
            "assistant/inference/mlflow_agent.py": AGENT,
            "model/__init__.py": MODEL,
            "model/answer.py": ANSWER,
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        (root / "model/tokenizer").mkdir()
        # pipeline.skills imports model.tokenizer.chat, and in the repository its `model` comes before ours.
        for name in ("__init__", "chat"):
            shutil.copy(ROOT / f"model/tokenizer/{name}.py", root / "model/tokenizer")
        params = (ROOT / "params.yaml").read_text(encoding="utf-8")
        (root / "params.yaml").write_text(re.sub(r"goals: \[.*?\]", "goals: [bpb]", params), encoding="utf-8")
        (root / "var").mkdir()
        self.knobs()
        self.init_dvc()

    def init_dvc(self) -> None:
        """Initialize DVC without Git, analytics and update checks."""
        (self.root / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvcignore", self.root / ".dvcignore")
        (self.root / ".dvc/config").write_text(
            "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
        )

    def knobs(self, **knobs: Any) -> None:
        """Set how good the next model is."""
        default = {"bpb": 1.4, "seed": 1, "answer": "hello", "skills": self.skills}
        (self.root / "knobs.json").write_text(json.dumps(default | knobs))

    def environment(self) -> dict[str, str]:
        """Return the environment of a user's shell, with the venv's bin first and no variable that points to another store."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "DVC_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, module: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start `python -m module arguments…` in the background, with its output in one pipe."""
        command = [sys.executable, "-m", module, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=self.environment(), **(pipes | options))

    def run(self, module: str, *arguments: str, code: int = 0) -> str:
        """Run `python -m module arguments…`, check its exit code and return its output."""
        with self.start(module, *arguments) as process:
            output, _ = process.communicate(timeout=120)
        assert process.returncode == code, output
        return output

    def repro(self, **knobs: Any) -> None:
        """Run the pipeline to a model of that quality."""
        self.knobs(**knobs)
        self.run("dvc", "repro", "-q")

    def registry(self, *arguments: str, code: int = 0) -> str:
        """Run a `pipeline.registry` command in a fork; return what it printed."""
        options = {"folder": self.root, "environment": self.environment(), "output": self.root / "var/registry.log"}
        exit_code, output = run_module("pipeline.registry", arguments, **options)
        assert exit_code == code, output
        return output

    def ledger(self, *arguments: str, code: int = 0) -> str:
        """Run a `pipeline.ledger` command in this process; return what it printed."""
        return call_main(ledger_main, *arguments, folder=self.root, environment=self.environment(), code=code)

    def aliases(self) -> dict[str, str]:
        self.registry("list", "--json", "var/list.json")
        return json.loads((self.root / "var/list.json").read_text())["aliases"]


def _policy_skills() -> list[str]:
    from pipeline.params import load_params

    return list(load_params(ROOT / "params.yaml").registry.get_tolerances())
