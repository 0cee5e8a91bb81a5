"""Our servers: they survive a kill, and a page of another site that the user has open starts, changes and reads nothing.

That page is played once by hand, as raw HTTP requests, and once with a real browser, which holds the keys of all servers because
its user has opened their pages. The servers are those of `make ui`, `make run` and `make invocations`, with an echo for a model.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.processes.credentials import make_basic, read_key
from flows.processes.server import find_free_port, is_healthy
from tests.browser import Tab, find_chromium, start_browser
from tests.conftest import ROOT
from tests.fake_repo import FakeRepo
from tests.flows.conftest import list_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SECRET = "experiment-of-the-user"
ACTIVE = ("SCHEDULED", "PENDING", "RUNNING")
# An application in place of MLflow's scoring server: answering takes a model.
ECHO = """
from pathlib import Path

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/invocations":
        with Path("invoked").open("a") as file:
            file.write(scope["method"] + "\\n")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})
"""


@dataclass(frozen=True)
class Servers:
    """Running servers of one workspace: their ports and keys by name."""

    root: Path
    ports: dict[str, int]
    keys: dict[str, str]

    def send(self, server: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """Send a request; `host` and `authorization` default to the right ones, "" leaves one out."""
        wanted = {"Host": f"127.0.0.1:{self.ports[server]}", "Authorization": f"Bearer {self.keys[server]}"}
        if server == "prefect":
            wanted["Authorization"] = f"Basic {base64.b64encode(make_basic(self.keys[server]).encode()).decode()}"
        wanted |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[server], timeout=60)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body).encode()
            connection.putrequest(method, path, skip_host=True)
            lengths = {"Content-Length": str(len(data or b""))}
            for name, value in ({"Content-Type": "application/json"} | wanted | lengths).items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def read(self, server: str, method: str, path: str, body: Any = None) -> Any:
        """Send a request as the owner; return the answer's JSON."""
        status, answer = self.send(server, method, path, body)
        assert status < 300, answer
        return json.loads(answer)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, prefect_history: Path) -> Iterator[Servers]:
    repo = FakeRepo(tmp_path_factory.mktemp("servers"))
    (repo.root / "var/prefect").mkdir()
    shutil.copy(prefect_history, repo.root / "var/prefect")
    (repo.root / "echo.py").write_text(ECHO)
    with start_ui(repo) as urls, start_echo(repo) as echo:  # the first one ends last
        ports = {name: int(url.split(":")[2].split("/")[0]) for name, url in urls.items()}
        keys = {name: read_key(repo.root, name) for name in (*urls, "invocations")}
        assert {name: url.partition("#")[2] for name, url in urls.items()} | {
            "invocations": keys["invocations"]
        } == keys
        running = Servers(repo.root, {**ports, "invocations": echo}, keys)
        running.read("mlflow", "POST", "/api/2.0/mlflow/experiments/create", {"name": SECRET})
        yield running


@contextlib.contextmanager
def start_ui(repo: FakeRepo) -> Generator[dict[str, str]]:
    """Run `make ui`; yield the printed addresses by server. Ctrl-C stops both and leaves no process."""
    with repo.start("flows", "ui") as ui:
        assert ui.stdout is not None
        lines: list[str] = []
        try:
            for line in ui.stdout:
                lines.append(line)
                if line.startswith("Ctrl-C"):
                    break
            urls = [line.split()[-1] for line in lines if "http://" in line]
            yield dict(zip(("prefect", "mlflow"), urls, strict=True))
        finally:
            ui.send_signal(signal.SIGINT)
            printed = ui.stdout.read()
    assert "stopping both" in printed
    assert ui.returncode == 0
    assert not list_processes(repo.root)
    assert not (repo.root / "var/prefect/server.json").exists()


@contextlib.contextmanager
def start_echo(repo: FakeRepo) -> Generator[int]:
    port = find_free_port()
    command = [sys.executable, "-m", "flows.processes.host", "invocations", "echo:app", "--port", str(port)]
    with subprocess.Popen(command, cwd=repo.root, env=repo.environment()) as process:
        try:
            yield port
        finally:
            process.terminate()


FLOW = {"name": "retrain"}
POOL = {"name": "evil", "type": "process", "base_job_template": {"job_configuration": {"command": "touch pwned"}}}
ATTACKS = [
    ("prefect", "POST", "/api/flows/", FLOW),
    ("prefect", "POST", "/api/work_pools/", POOL),
    ("prefect", "POST", "/api/flow_runs/filter", {}),
    ("prefect", "GET", "/api/admin/settings", None),
    ("mlflow", "POST", "/api/2.0/mlflow/experiments/create", {"name": "evil"}),
    ("mlflow", "POST", "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 10}),
    ("mlflow", "GET", "/api/2.0/mlflow/experiments/search?max_results=10", None),
    ("mlflow", "GET", "/get-artifact?path=a&run_uuid=b", None),
    ("invocations", "POST", "/invocations", {"input": []}),
]


def list_traces(servers: Servers) -> tuple[set[str], set[str], set[str], bool]:
    """Return what an attack would leave behind: flows, work pools, experiments, whether the model was asked."""
    flows = {flow["name"] for flow in servers.read("prefect", "POST", "/api/flows/filter", {})}
    pools = {pool["name"] for pool in servers.read("prefect", "POST", "/api/work_pools/filter", {})}
    found = servers.read("mlflow", "GET", "/api/2.0/mlflow/experiments/search?max_results=10")["experiments"]
    return flows, pools, {each["name"] for each in found}, (servers.root / "invoked").exists()


@pytest.mark.parametrize(("server", "method", "path", "body"), ATTACKS)
def test_raw_requests_of_a_foreign_page_are_refused(
    servers: Servers, server: str, method: str, path: str, body: Any
) -> None:
    """Without the key; with the key (which a browser adds) from a foreign page; through a name that was bound to 127.0.0.1."""
    before, port = list_traces(servers), servers.ports[server]
    assert servers.send(server, method, path, body, authorization="")[0] == 401
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null", "content_type": "text/plain"},
        {"origin": f"http://127.0.0.1:{find_free_port()}"},
        {"host": f"evil.example:{port}", "origin": f"http://evil.example:{port}"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
    ):
        for key in ({}, {"authorization": ""}):
            status, answer = servers.send(server, method, path, body, **headers, **key)
            assert (status, SECRET.encode() in answer) == (403, False), headers
    assert list_traces(servers) == before


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    """Serve an empty page on another port: another site on the same machine, the hardest case for cookies and same-site rules."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><body>free puppies</body>")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def tab(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """Start a browser whose user has opened the pages of both servers with the addresses that `make ui` prints."""
    if find_chromium() is None:
        pytest.skip("no Chromium or Chrome is installed: the raw requests above are tested all the same")
    with start_browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


def open_page(servers: Servers, tab: Tab, server: str) -> None:
    url = f"http://127.0.0.1:{servers.ports[server]}/open#{servers.keys[server]}"
    tab.open(url, "location.pathname !== '/open' && document.body.innerText.length > 50")


def test_the_printed_address_opens_the_page_with_its_data(servers: Servers, tab: Tab) -> None:
    open_page(servers, tab, "prefect")
    assert servers.keys["prefect"] not in tab.evaluate("location.href")
    tab.wait("document.body.innerText.includes('Run a task or flow') || document.body.innerText.includes('Flow Runs')")
    open_page(servers, tab, "mlflow")
    tab.evaluate("location.hash = '#/experiments'")
    tab.wait(f"document.body.innerText.includes('{SECRET}')")
    tab.open(
        f"http://127.0.0.1:{servers.ports['prefect']}/open#wrong", "document.body.innerText.startsWith('Another key')"
    )


# Every way in which a page sends a request: fetch in all modes, a form, an image, a frame, a socket; what it can read comes back.
PAGE = """
(async () => {
  const read = [];
  const note = (what, text) => { if (text) read.push(what + ": " + text.slice(0, 80)); };
  for (const [url, method, body] of ATTACKS) {
    for (const mode of ["cors", "no-cors"])
      for (const type of ["text/plain", "application/json"])
        for (const credentials of ["include", "omit"])
          try {
            const options = {method, mode, credentials, headers: {"Content-Type": type}};
            if (method !== "GET") options.body = JSON.stringify(body);
            const answer = await fetch(url, options);
            if (answer.type !== "opaque") note("fetch " + url, answer.status + " " + await answer.text());
          } catch (error) {}
    const image = new Image();
    await new Promise(done => { image.onload = () => { note("image", url); done(); }; image.onerror = done; image.src = url; });
    const frame = document.createElement("iframe");
    frame.name = "target";
    document.body.append(frame);
    if (method !== "GET") {
      const form = document.createElement("form");
      form.method = "POST"; form.enctype = "text/plain"; form.target = "target"; form.action = url;
      const field = document.createElement("input");
      const text = JSON.stringify(body);
      field.name = text.slice(0, -1) + (text === "{}" ? "" : ",") + '"x'; field.value = 'y":1}';
      form.append(field); document.body.append(form); form.submit();
    } else frame.src = url;
    await new Promise(done => setTimeout(done, 200));
    try { note("frame", frame.contentDocument && frame.contentDocument.body.innerText); } catch (error) {}
    frame.remove();
  }
  for (const url of SOCKETS)
    await new Promise(done => {
      const socket = new WebSocket(url, "prefect");
      socket.onopen = () => { note("socket", url); done(); };
      socket.onerror = done;
    });
  return read;
})()
"""


def test_a_foreign_page_in_a_real_browser_does_nothing(servers: Servers, tab: Tab, foreign_port: int) -> None:
    open_page(servers, tab, "prefect")
    open_page(servers, tab, "mlflow")
    before = list_traces(servers)
    attacks = [
        [f"http://{host}:{servers.ports[name]}{path}", method, body]
        for name, method, path, body in ATTACKS
        for host in ("127.0.0.1", "localhost")
    ]
    sockets = [f"ws://127.0.0.1:{servers.ports['prefect']}/api/events/{way}" for way in ("in", "out")]
    page = PAGE.replace("ATTACKS", json.dumps(attacks)).replace("SOCKETS", json.dumps(sockets))
    for host in ("127.0.0.1", "localhost"):
        tab.open(f"http://{host}:{foreign_port}/", "document.body.innerText.includes('puppies')")
        assert tab.evaluate(page) == []
    assert list_traces(servers) == before


def test_the_same_page_works_against_a_server_without_protection(tab: Tab, foreign_port: int, tmp_path: Path) -> None:
    """The attack of these tests is real: an application without `Access` is changed and read by it."""
    (tmp_path / "echo.py").write_text(
        ECHO.replace('b"content-type", b"application/json"', 'b"access-control-allow-origin", b"*"')
    )
    port = find_free_port()
    command = [sys.executable, "-m", "uvicorn", "echo:app", "--port", str(port), "--log-level", "error"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            deadline = time.monotonic() + 60
            while not is_healthy(f"http://127.0.0.1:{port}/"):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            attacks = [[f"http://127.0.0.1:{port}/invocations", "POST", {}]]
            page = PAGE.replace("ATTACKS", json.dumps(attacks)).replace("SOCKETS", "[]")
            tab.open(f"http://127.0.0.1:{foreign_port}/", "document.body.innerText.includes('puppies')")
            assert any("200 {}" in line for line in tab.evaluate(page))
        finally:
            process.terminate()
    assert "POST" in (tmp_path / "invoked").read_text()


def open_repo(servers: Servers) -> FakeRepo:
    repo = object.__new__(FakeRepo)
    repo.root, repo.skills = servers.root, []
    return repo


def test_a_second_ui_and_a_run_use_the_servers_and_the_error_is_the_stages_own(servers: Servers) -> None:
    repo = open_repo(servers)
    assert "running already" in repo.run("flows", "ui")
    repo.knobs(error=True)
    try:
        output = repo.run("flows", "retrain", "--no-register", code=1)
    finally:
        repo.knobs()  # for the tests that follow
    assert "error: sft failed: sft.training.seed: too lucky\n  found: 13\n  to do: take another one\n" in output
    assert "Traceback" not in output
    assert "exited with" not in output
    runs = servers.read("prefect", "POST", "/api/flow_runs/filter", {})
    assert [run["state"]["type"] for run in runs] == ["FAILED"]


@pytest.fixture(scope="module")
def deployment(servers: Servers) -> Iterator[str]:
    """Run `python -m flows worker` with the deployment of prefect.yaml; yield its id."""
    repo = open_repo(servers)
    shutil.copy(ROOT / "prefect.yaml", repo.root)
    (repo.root / "flows").mkdir()
    shutil.copy(ROOT / "flows/retrain.py", repo.root / "flows")
    with repo.start("flows", "worker") as worker:
        assert worker.stdout is not None
        try:
            line = worker.stdout.readline()
            assert line.startswith("worker: waiting"), line
            yield servers.read("prefect", "GET", "/api/deployments/name/retrain/nightly")["id"]
        finally:
            worker.send_signal(signal.SIGINT)
            worker.stdout.read()


def order_run(servers: Servers, deployment: str, **body: Any) -> dict[str, Any]:
    """Create a flow run of a deployment, which is due now; return its state when it has ended."""
    body = {"state": {"type": "SCHEDULED"}, "parameters": {"register": False}} | body
    number = servers.read("prefect", "POST", f"/api/deployments/{deployment}/create_flow_run", body)["id"]
    deadline = time.monotonic() + 180
    while (run := servers.read("prefect", "GET", f"/api/flow_runs/{number}"))["state"]["type"] in ACTIVE:
        assert time.monotonic() < deadline, run
        time.sleep(0.5)
    return run["state"]


def test_even_with_the_key_a_worker_takes_no_command(servers: Servers, deployment: str) -> None:
    pwned = servers.root / "pwned"
    for variables in ({"command": f"touch {pwned}"}, {"env": {"PYTHONPATH": "/tmp"}}, {"working_dir": "/tmp"}):
        state = order_run(servers, deployment, job_variables=variables)
        assert state["type"] == "CRASHED"
        assert "job variables (command, env, working_dir …) are refused" in state["message"]
    template = servers.read("prefect", "GET", "/api/work_pools/local")["base_job_template"]
    assert template["variables"]["properties"] == {}
    flow = servers.read("prefect", "GET", f"/api/deployments/{deployment}")["flow_id"]
    step = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {pwned}"}}
    for changed in ({"pull_steps": [step]}, {"entrypoint": "evil.py:flow"}):
        body = {
            "name": f"evil-{next(iter(changed))}",
            "flow_id": flow,
            "work_pool_name": "local",
            "entrypoint": "flows/retrain.py:retrain",
        }
        evil = servers.read("prefect", "POST", "/api/deployments/", body | changed)["id"]
        assert order_run(servers, evil)["type"] == "CRASHED"
    assert not pwned.exists()


def test_the_deployment_of_prefect_yaml_runs(servers: Servers, deployment: str) -> None:
    state = order_run(servers, deployment)
    assert (state["type"], state["message"]) == ("COMPLETED", "everything is up to date; nothing was registered")


@pytest.mark.parametrize("server", ["prefect", "mlflow"])
def test_a_server_that_is_killed_is_started_again_at_its_address(servers: Servers, server: str) -> None:
    [process] = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(servers.root)
        and (process.info["cmdline"] or [])[1:4] == ["-m", "flows.processes.host", server]
    ]
    process.kill()
    process.wait(30)
    deadline = time.monotonic() + 120
    health = {"prefect": "/api/health", "mlflow": "/health"}[server]
    while not is_healthy(f"http://127.0.0.1:{servers.ports[server]}{health}"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert SECRET in list_traces(servers)[2]
