"""python -m flows invocations: the champion behind http://127.0.0.1:PORT/invocations, for whoever has the key, until Ctrl-C.

In: the registry's champion, which `pull` checks and installs in var/champion; its package is what MLflow's scoring server loads.
Out: the address, and how to send a request with the key. Does not cover: other machines; put a proxy with TLS in front for those.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from flows.processes import child, credentials, server

INVOCATIONS, APPLICATION = "invocations", "mlflow.pyfunc.scoring_server.app:app"
PACKAGE = Path("var/champion/package")
LOG = Path("var/invocations.log")
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
MODEL_VARIABLE = "__pyfunc_model_path__"  # where MLflow's scoring server looks for the model's folder
EXAMPLE = '{"input": [{"role": "user", "content": "What is 12 * 7?"}]}'
HEALTH_SECONDS = 300.0  # the model is loaded, and its kernel compiled, before the server answers


def serve_champion(root: Path, port: int) -> int:
    """Serve until Ctrl-C; return the exit code."""
    pulled = subprocess.run([sys.executable, "-m", "pipeline.registry", "pull"], cwd=root, check=False)
    if pulled.returncode:
        return pulled.returncode
    if server.find_free_port(port) != port:
        raise server.ServerError(
            f"port {port} is taken\n  found: another program listens on it\n  to do: make invocations PORT=5002"
        )
    key = credentials.read_key(root, INVOCATIONS)
    # Nothing is written into the package, whose files `pull` compares with what was published.
    writes = {"PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str((root / "var/numba").resolve())}
    store = (
        os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'var/mlflow.db').resolve()}"
    )  # else ./mlflow.db is made
    model = {MODEL_VARIABLE: str((root / PACKAGE).resolve()), "MLFLOW_TRACKING_URI": store}
    settings = {**SETTINGS, **writes, **model}
    process = server.start(root, [INVOCATIONS, APPLICATION, "--port", str(port)], settings, root / LOG)
    try:
        url = f"http://127.0.0.1:{port}"
        server.wait_until_healthy(
            f"{url}/health", root / LOG, process, lambda text: print(text, flush=True), HEALTH_SECONDS
        )
        print(
            f"serving {url}/invocations for whoever has the key in {credentials.KEYS / INVOCATIONS}; Ctrl-C stops it. Try:"
        )
        headers = f"-H 'Content-Type: application/json' -H 'Authorization: Bearer {key}'"
        print(f"  curl {url}/invocations {headers} -d '{EXAMPLE}'", flush=True)
        while process.poll() is None:
            time.sleep(0.5)
        raise server.make_error(url, root / LOG, "its process ended")
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        return 0
    finally:
        child.stop(process)
