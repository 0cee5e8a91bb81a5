"""The launcher: one process without torchrun, several with it, and two processes give the result of one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from ruamel.yaml import YAML

from model.network.folder import load_model
from pipeline import launch
from pipeline.command import await_interrupt, interrupt_once, run_stage_command
from pipeline.frame.errors import UserError
from pipeline.launch import choose_n_processes, main, make_torchrun_options
from pipeline.params import STAGES
from pipeline.run import exit_once
from tests.conftest import ROOT, build_once, stage_commands


def test_missing_stage_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "torchrun" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["filtr"], ["--sharding", "full"], ["filtr", "--docs", "data/dedupe"]])
def test_a_command_without_a_stage_names_what_was_given_and_all_stages(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    *_, what, found, do = capsys.readouterr().err.strip().splitlines()
    assert what == "error: no stage is named"
    assert " ".join(words) in found
    assert all(stage in do for stage in STAGES)


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "error:" not in capsys.readouterr().err


def test_invalid_number_of_processes_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_PROCESSES", "zero")
    with pytest.raises(UserError, match="MINIGPT_PROCESSES"):
        choose_n_processes(16)


@pytest.mark.parametrize(
    ("cores", "batch_rows", "expected"), [(1, 16, 1), (2, 16, 2), (3, 16, 2), (8, 16, 4), (8, 6, 2), (2, 15, 1)]
)
def test_processes_on_a_cpu_divide_the_batch(
    cores: int, batch_rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_DEVICE", "cpu")
    monkeypatch.setenv("MINIGPT_WORKERS", str(cores))
    assert choose_n_processes(batch_rows) == expected


def test_torchrun_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIGPT_MAX_RESTARTS", raising=False)
    assert make_torchrun_options([], 4) == ["--standalone", "--max-restarts=0", "--nproc-per-node=4"]
    assert make_torchrun_options(["--nproc_per_node=2"], 4) == [
        "--standalone",
        "--max-restarts=0",
        "--nproc_per_node=2",
    ]
    rendezvous = ["--nnodes=2", "--rdzv-endpoint=a:1", "--nproc-per-node=8"]
    assert make_torchrun_options(rendezvous, 4) == ["--rdzv-backend=c10d", "--max-restarts=0", *rendezvous]


@pytest.mark.parametrize(
    ("options", "variable", "expected"),
    [([], "", 3), ([], "7", 7), (["--max-restarts=2"], "7", 2), (["--max_restarts", "0"], "", 0)],
)
def test_restarts_are_an_option_or_a_variable(
    options: list[str], variable: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], int]] = []

    def run(torchrun: list[str], command: list[str], n_restarts: int) -> int:
        started.append((torchrun, n_restarts))
        return 0

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launch, "_run_until_done", run)
    monkeypatch.setenv("MINIGPT_MAX_RESTARTS", variable)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main([*options, "--nproc-per-node=2", *stage_commands()["pretrain"]]) == 0
    assert started == [(["--standalone", "--max-restarts=0", "--nproc-per-node=2"], expected)]


def test_invalid_number_of_restarts_is_rejected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIGPT_MAX_RESTARTS", "often")
    assert main(["--nproc-per-node=2", *stage_commands()["pretrain"]]) == 1
    assert "MINIGPT_MAX_RESTARTS" in capsys.readouterr().err


class Failure(NamedTuple):
    exitcode: int
    timestamp: int = 0
    pid: int = 17


@pytest.mark.parametrize(
    ("codes", "n_left", "expected", "message"),
    [
        ([-9], 3, None, "process 17 was killed by signal 9; restarting from the newest checkpoint (3 of 3"),
        ([1, 1], 1, None, "process 17 exited with 1; restarting from the newest checkpoint (1 of 3"),
        ([-9], 0, 1, "error: pretrain: process 0 was killed by signal 9"),
        ([5], 0, 5, ""),
        ([78, 1], 3, 1, ""),
        ([2], 3, 2, ""),
        ([130, 1], 3, 130, ""),
    ],
)
def test_processes_restart_unless_the_failure_is_final(
    codes: list[int], n_left: int, expected: int | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failures: Any = {rank: Failure(code, timestamp=rank) for rank, code in enumerate(codes)}
    assert launch._report_failure("pretrain", failures, n_left, 3) == expected
    printed = capsys.readouterr().err
    assert message in printed
    assert bool(message) == bool(printed)


def test_stage_that_does_not_train_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_PROCESSES", "4")
    monkeypatch.setattr(launch, "run_stage_command", lambda command: len(command))
    assert main(stage_commands()["shard"]) == len(stage_commands()["shard"])
    assert [stage for stage in STAGES if launch.is_training_stage(stage)] == ["pretrain", "sft"]


def dry_run(
    options: list[str], command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MINIGPT_DEVICE", "cpu")
    monkeypatch.setenv("MINIGPT_SHARDING", "none")
    monkeypatch.setenv("MINIGPT_WORKERS", "4")
    assert main(["--dry-run", *options, *command]) == 0
    return capsys.readouterr().out


def test_dry_run_prints_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = stage_commands()["pretrain"]
    output = dry_run(["--nnodes", "2", "--rdzv-endpoint=a:1", "--sharding", "full"], command, monkeypatch, capsys)
    assert output.startswith("torchrun --rdzv-backend=c10d --max-restarts=0 --nproc-per-node=2 --nnodes 2 ")
    assert "--sharding" not in output
    assert os.environ["MINIGPT_SHARDING"] == "full"
    monkeypatch.setenv("MINIGPT_PROCESSES", "1")
    assert dry_run([], command, monkeypatch, capsys) == f"python -m pipeline {shlex.join(command)}\n"
    for wrong in (["--nodes-of-mine=2"], []):
        with pytest.raises(SystemExit) as exit_info:
            main(["--dry-run", *wrong, *(command if wrong else command[:3])])
        assert exit_info.value.code == 2
        capsys.readouterr()


def test_slurm_example_is_accepted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "docs/cluster/slurm.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(path)], check=True)
    srun_commands = re.findall(r"^srun (?:[^\n]*\\\n)*[^\n]*$", text, re.MULTILINE)
    assert len(srun_commands) == 1
    filled = srun_commands[0].replace("$SLURM_NNODES", "2").replace("$SLURM_JOB_ID", "17").replace("$first", "node1")
    assert "$" not in filled
    words = shlex.split(filled.replace("\\\n", " "))
    at = words.index("pipeline") + 1
    stage = words.index("pretrain")
    output = dry_run(words[at:stage], words[stage:], monkeypatch, capsys)
    assert "--nnodes=2" in output
    assert words[stage:] == stage_commands()["pretrain"]
    settings = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert settings["nodes"] == "2"
    assert settings["ntasks-per-node"] == "1"
    assert f"--nproc-per-node={settings['gpus-per-node']}" in words


def test_kubernetes_example_is_accepted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    documents = (ROOT / "docs/cluster/kubernetes.yaml").read_text().split("---\n")
    service, job = (YAML(typ="safe", pure=True).load(text) for text in documents)
    assert (service["kind"], job["kind"], job["spec"]["completionMode"]) == ("Service", "Job", "Indexed")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "pipeline"]
    arguments = container["args"]
    stage = arguments.index("pretrain")
    dry_run(arguments[:stage], arguments[stage:], monkeypatch, capsys)
    assert arguments[stage:] == stage_commands()["pretrain"]
    machines = job["spec"]["completions"]
    assert machines == job["spec"]["parallelism"]
    assert f"--nnodes={machines}" in arguments
    assert f"--nproc-per-node={container['resources']['limits']['nvidia.com/gpu']}" in arguments
    # The DNS name of a pod in a headless service is JOB-INDEX.SUBDOMAIN, and the subdomain is the name of the service.
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == name
    assert f"--rdzv-endpoint={job['metadata']['name']}-0.{name}:{port}" in arguments
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.slow
def test_error_of_all_processes_is_printed_once(finished_workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        (finished_workspace / "params.yaml").read_text().replace("seq_len: 384", "seq_len: 1000000")
    )
    argv = [*stage_commands()["pretrain"], "--params", str(tmp_path / "params.yaml")]
    argv[argv.index("--out") + 1], argv[argv.index("--metrics") + 1] = str(tmp_path / "out"), str(tmp_path / "m.json")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_PROCESSES": "2", "MINIGPT_DEVICE": "cpu"}
    completed = subprocess.run(
        [sys.executable, "-m", "pipeline", *argv],
        cwd=finished_workspace,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 1
    assert completed.stderr.count("does not fill one row") == 1
    assert "Traceback" not in completed.stderr


STEPS = 24


def short_run(finished_workspace: Path, folder: Path) -> list[str]:
    """Create a workspace with the inputs of the finished one and checkpoints at every second step. Return its pretrain command."""
    folder.mkdir()
    (folder / "data").symlink_to(finished_workspace / "data")
    params = (finished_workspace / "params.yaml").read_text().replace("total_steps: 30", f"total_steps: {STEPS}")
    (folder / "params.yaml").write_text(params.replace("eval_every: 15", "eval_every: 12"))
    argv = stage_commands()["pretrain"]
    argv[argv.index("--out") + 1], argv[argv.index("--metrics") + 1] = str(folder / "out"), str(folder / "metrics.json")
    return argv


def make_environment(**changes: str) -> dict[str, str]:
    fixed = {
        "PYTHONPATH": str(ROOT),
        "MINIGPT_COMPILE": "0",
        "MINIGPT_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "MINIGPT_CHECKPOINT_SECONDS": "0",
        "MINIGPT_KEEP_EVERY": "2",
    }
    return {**os.environ, **fixed, **changes}


def start(
    folder: Path, options: list[str], command: list[str], log: str = "log", **changes: str
) -> subprocess.Popen[bytes]:
    """Start `python -m pipeline` in its own process group, as a shell does."""
    with (folder / log).open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *options, *command],
            cwd=folder,
            env=make_environment(**{"MINIGPT_STOP_SECONDS": "60", **changes}),  # two ranks on a busy machine
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for_steps(folder: Path, launcher: subprocess.Popen[bytes], n_steps: int) -> int:
    while True:
        paths = list(folder.glob("scratch/pretrain/*/steps.jsonl"))
        n_done = len(paths[0].read_text().splitlines()) if paths else 0
        if n_done >= n_steps:
            return n_done
        assert launcher.poll() is None, [log.read_text() for log in folder.glob("log*")]
        time.sleep(0.02)


def find_workers(*launchers: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """Return the training processes by rank."""
    children = [child for each in launchers for child in psutil.Process(each.pid).children(recursive=True)]
    processes = {child.environ().get("RANK", ""): child for child in children if "pipeline" in child.cmdline()}
    assert sorted(processes) == ["0", "1"]
    return processes


@pytest.fixture(scope="module")
def undisturbed(finished_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return for each sharding the folder of a run of two processes. Read them, never write to them."""

    def run(root: Path) -> None:
        for sharding in ("none", "full"):
            command = short_run(finished_workspace, root / sharding)
            launcher = start(root / sharding, ["--nproc-per-node=2", "--sharding", sharding], command)
            assert launcher.wait() == 0, (root / sharding / "log").read_text()

    root = build_once(tmp_path_factory, "launched", run)
    return {sharding: root / sharding for sharding in ("none", "full")}


def read_history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "out/history.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one(
    finished_workspace: Path,
    undisturbed: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real torchrun with two CPU processes, sharded or not: the same losses up to the order of sums in bf16."""
    command = short_run(finished_workspace, tmp_path / "alone")
    monkeypatch.chdir(tmp_path / "alone")
    monkeypatch.setenv("MINIGPT_SHARDING", "full")
    assert run_stage_command(command) == 0
    message = "there is only one process"
    assert message in capsys.readouterr().out
    alone = read_history(tmp_path / "alone")
    for folder in undisturbed.values():
        ours = read_history(folder)
        assert [row["tokens"] for row in ours] == [row["tokens"] for row in alone]
        assert ours[0]["loss_nats"] == pytest.approx(alone[0]["loss_nats"], rel=1e-3)
        assert ours[-1]["loss_nats"] == pytest.approx(alone[-1]["loss_nats"], rel=2e-2)
        assert ours[-1]["bpb"] == pytest.approx(alone[-1]["bpb"], rel=2e-2)
        assert json.loads((folder / "metrics.json").read_text())["tokens"] == alone[-1]["tokens"]
        assert not list(folder.glob("*.partial"))
        assert message not in (folder / "log").read_text()
        model, _, _ = load_model(folder / "out")  # the weights are whole, sharded or not
        assert model.config.n_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_killed_process_costs_less_than_a_checkpoint_interval(
    finished_workspace: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    """After kill -9 of one of two processes both restart from the newest checkpoint, and the result has the same bytes."""
    folder = tmp_path / "killed"
    command = short_run(finished_workspace, folder)
    launcher = start(folder, ["--nproc-per-node=2", "--sharding=none"], command)
    n_done = wait_for_steps(folder, launcher, 7)
    find_workers(launcher)["1"].kill()
    assert launcher.wait() == 0, (folder / "log").read_text()
    log = (folder / "log").read_text()
    assert "was killed by signal 9; restarting from the newest checkpoint (3 of 3 attempts left)" in log
    resumed = [int(step) for step in re.findall(rf"continuing after step (\d+) of {STEPS}", log)]
    assert len(resumed) == 1
    assert resumed[0] >= n_done - 2  # a checkpoint at every second step; the newest may not have been finished
    for name in ("model.safetensors", "history.jsonl", "config.json", "tokenizer.json"):
        assert (folder / "out" / name).read_bytes() == (undisturbed["none"] / "out" / name).read_bytes(), name
    assert not list(folder.glob("out.*"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_no_process(number: signal.Signals, code: int, finished_workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    command = short_run(finished_workspace, folder)
    launcher = start(folder, ["--nproc-per-node=2", "--sharding=full"], command)
    wait_for_steps(folder, launcher, 2)
    processes = list(find_workers(launcher).values())
    os.killpg(launcher.pid, number)
    assert launcher.wait() == code
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    log = (folder / "log").read_text()
    assert log.count("run it again to resume") == (number == signal.SIGINT)
    assert "Traceback" not in log
    assert "death signal" not in log
    assert "closing signal" not in log
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize(
    ("number", "handler", "expected"),
    [(signal.SIGINT, interrupt_once, KeyboardInterrupt), (signal.SIGTERM, exit_once, SystemExit)],
)
def test_signal_explains_the_loss_of_a_peer(
    number: signal.Signals, handler: Any, expected: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's checkpoint catches what a signal handler raises, and then fails to send it to a peer that has ended."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("pipeline.command.SIGNAL_WAIT_SECONDS", 0.0)
    previous = signal.signal(number, handler)
    try:
        with pytest.raises(RuntimeError, match="closed by peer"), await_interrupt():
            raise RuntimeError("Connection closed by peer")
        with contextlib.suppress(expected):
            handler(number, None)  # a real signal could arrive between two tests of this process
        with pytest.raises(expected), await_interrupt():
            raise RuntimeError("Connection closed by peer")
    finally:
        signal.signal(number, previous)


@pytest.mark.slow
def test_two_launchers_are_one_run(finished_workspace: Path, undisturbed: dict[str, Path], tmp_path: Path) -> None:
    """Two launchers on this machine with one process each give the same bytes as two processes under one launcher, although the
    main process is killed and both launchers restart."""
    folder = tmp_path / "machines"
    command = short_run(finished_workspace, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-id=here", "--rdzv-endpoint", endpoint, "--sharding=full"]
    launchers = [start(folder, options, command, log=f"log{number}") for number in range(2)]
    wait_for_steps(folder, launchers[0], 7)
    find_workers(*launchers)["0"].kill()
    assert [launcher.wait() for launcher in launchers] == [0, 0], [(folder / f"log{n}").read_text() for n in range(2)]
    for name in ("model.safetensors", "history.jsonl"):
        assert (folder / "out" / name).read_bytes() == (undisturbed["full"] / "out" / name).read_bytes(), name


@pytest.mark.slow
def test_missing_machine_ends_with_a_temporary_failure(finished_workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lonely"
    command = short_run(finished_workspace, folder)
    options = ["--nnodes=2", "--rdzv-endpoint=127.0.0.1:0", "--rdzv-conf=join_timeout=1", "--nproc-per-node=1"]
    assert start(folder, options, command).wait() == 75
    assert "rendezvous failed" in (folder / "log").read_text()
