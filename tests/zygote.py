"""Run `python -m MODULE` in a fork of a process that has imported MLflow, so that its three seconds are paid once per test process.

In: working directory, environment, module and arguments. Out: exit code and output. No module of ours has been imported before the
fork, so `model` and `assistant` are those of the working directory, as under a new interpreter.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from pipeline.registry.store import SETTINGS

SERVER = """
import atexit, json, os, runpy, sys
import mlflow, mlflow.pyfunc, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store

def run(order):
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:1] = [order["folder"], *filter(None, order["environment"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.dont_write_bytecode = bool(order["environment"].get("PYTHONDONTWRITEBYTECODE"))
    sys.argv = [order["module"], *order["arguments"]]
    code = 1
    try:
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@cache
def start_server() -> subprocess.Popen[str]:
    """Start the process that forks; it ends with this one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {**SETTINGS, "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen(command, cwd="/", env=environment, **pipes)
    atexit.register(server.communicate)
    return server


def run_module(
    module: str, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], output: Path
) -> tuple[int, str]:
    """Run a module in `folder` with exactly this environment; return its exit code and what it printed, which goes to `output`."""
    server = start_server()
    assert server.stdin is not None
    assert server.stdout is not None
    order = {"module": module, "arguments": [*arguments], "folder": str(folder), "environment": dict(environment)}
    server.stdin.write(json.dumps({**order, "output": str(output)}) + "\n")
    server.stdin.flush()
    code = int(server.stdout.readline())
    return code, output.read_text(encoding="utf-8", errors="replace")
