"""The plan of a run: its numbers are consistent, and impossible runs are rejected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.launch import main
from pipeline.params import load_params
from pipeline.plan import Device, find_recipe, make_device, make_plan
from pipeline.training.peak import DEVICES
from tests.conftest import ROOT, read_yaml

A_DEVICE = Device(name="one", tflops=100.0, memory_gb=80.0, mfu=0.5)


def test_json_has_the_whole_plan_with_consistent_cost(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["plan", "--recipe", "smoke", "--device", "a100", "--devices", "2", "--price-per-hour", "3", "--json"]
    assert main(argv) == 0
    plan = json.loads(capsys.readouterr().out)
    training = read_yaml(ROOT / "docs/recipes/smoke.yaml")["pretrain"]["training"]
    phase = plan["phases"]["pretrain"]
    assert phase["tokens"] == training["total_steps"] * training["batch_rows"] * plan["seq_len"]
    assert phase["flops"] == phase["tokens"] * plan["flops_per_token"]
    assert phase["hours"] * 3600 * 2 * DEVICES["a100"][0] * 1e12 * plan["mfu"] == pytest.approx(phase["flops"])
    assert plan["hours"] == pytest.approx(sum(part["hours"] for part in plan["phases"].values()))
    assert plan["cost"] == pytest.approx(plan["hours"] * 2 * 3)
    assert plan["fits"]


def test_table_lists_every_kind_of_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--recipe", str(ROOT / "params.yaml"), "--device", "h100"]) == 0
    output = capsys.readouterr().out
    for word in ("parameters", "weights", "gradients", "optimizer", "activations", "peak", "pretrain", "sft", "fits"):
        assert word in output


def test_cpu_is_planned_with_its_own_properties(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--recipe", "smoke", "--tflops", "0.1", "--mfu", "0.5", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["device"], plan["tflops"], plan["mfu"]) == ("cpu", 0.1, 0.5)


@pytest.mark.slow
def test_real_steps_measure_the_mfu(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["plan", "--recipe", "names-char", "--tflops", "0.1", "--measure", "--json"]
    assert main(argv) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["mfu"] > 0
    achieved = plan["phases"]["pretrain"]["tokens_per_second"] * plan["flops_per_token"]
    assert achieved == pytest.approx(plan["mfu"] * 0.1e12)
    assert main(["plan", "--recipe", "names-char", "--device", "h100", "--measure"]) == 1
    assert "this machine's CPU" in capsys.readouterr().err


def test_activation_checkpointing_saves_memory_in_plain_torch_only(capsys: pytest.CaptureFixture[str]) -> None:
    peaks = []
    for kind in ("none", "selective", "full"):
        argv = ["plan", "--recipe", "1.5b", "--device", "h100", "--devices", "8", "--activation-checkpointing", kind]
        assert main([*argv, "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["activation_checkpointing"] == kind
        peaks.append(plan["phases"]["pretrain"]["bytes"]["peak"])
    assert peaks[0] > peaks[1] > peaks[2]
    params = load_params(ROOT / "params.yaml")
    kernels = Device(name="cpu", tflops=0.1, memory_gb=8.0, mfu=0.5, compute="kernels", is_cuda=False)
    same = [
        make_plan(params, kernels, 1, activation_checkpointing=kind)["phases"]["pretrain"]["bytes"]
        for kind in ("none", "full")
    ]
    assert same[0] == same[1]


def test_too_little_memory_is_reported() -> None:
    params = load_params(ROOT / "params.yaml")
    assert not make_plan(params, Device(name="small", tflops=1.0, memory_gb=0.01, mfu=0.4), 1)["fits"]
    assert make_plan(params, A_DEVICE, 1)["fits"]


def test_twice_the_devices_take_half_the_time() -> None:
    params = load_params(ROOT / "params.yaml")
    one, two = (make_plan(params, A_DEVICE, n) for n in (1, 2))
    assert two["hours"] == pytest.approx(one["hours"] / 2)
    assert two["phases"]["sft"]["tokens"] == one["phases"]["sft"]["tokens"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--recipe", "nothing"], "no recipe nothing"),
        (["--recipe", "smoke", "--device", "h100", "--devices", "7"], "multiple of the number of devices"),
        (["--recipe", "smoke", "--device", "h100", "--mfu", "2"], "fraction of the peak"),
        (["--recipe", "smoke", "--device", "h100", "--tflops", "0"], "--tflops must be above 0"),
    ],
)
def test_impossible_plans_are_rejected(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *argv]) == 1
    assert message in capsys.readouterr().err


def test_given_numbers_override_known_ones() -> None:
    device = make_device("h100", 8, tflops=500.0, memory_gb=40.0, mfu=0.3)
    assert (device.tflops, device.memory_gb, device.mfu) == (500.0, 40.0, 0.3)


def test_a_recipe_is_a_name_or_a_file(tmp_path: Path) -> None:
    assert find_recipe("smoke") == ROOT / "docs/recipes/smoke.yaml"
    assert find_recipe(str(ROOT / "params.yaml")) == ROOT / "params.yaml"
    with pytest.raises(UserError, match="smoke"):
        find_recipe(str(tmp_path / "nothing.yaml"))


@pytest.mark.parametrize("price", ["-3", "nan", "inf", "cheap"])
def test_a_price_that_is_none_is_a_usage_error(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--recipe", "smoke", "--device", "h100", f"--price-per-hour={price}"])
    assert f"{price!r} is not a price" in capsys.readouterr().err
