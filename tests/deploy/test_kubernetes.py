"""The Kubernetes manifests: built by kubectl, valid by the schemas of Kubernetes, and safe to stop."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from functools import cache
from io import StringIO
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from service.access import key_commands
from service.service_settings import ServiceSettings
from tests.conftest import ROOT, read_yaml

FOLDER = ROOT / "deploy" / "kubernetes"


@cache
def read_manifests() -> list[dict[str, Any]]:
    names = read_yaml(FOLDER / "kustomization.yaml")["resources"]
    texts = [(FOLDER / name).read_text(encoding="utf-8") for name in names]
    return [each for text in texts for each in YAML(typ="safe", pure=True).load_all(StringIO(text))]


def find(kind: str) -> dict[str, Any]:
    [manifest] = [each for each in read_manifests() if each["kind"] == kind]
    return manifest


@pytest.mark.parametrize("version", ["1.30", "1.33", "1.37"])
def test_the_manifests_are_valid(version: str) -> None:
    for manifest in read_manifests():
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on this machine")
def test_kubectl_builds_them_with_their_labels() -> None:
    command = ["kubectl", "kustomize", str(FOLDER)]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    manifests = list(YAML(typ="safe", pure=True).load_all(StringIO(built)))
    assert len(manifests) == len(read_manifests())
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.37", strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "minigpt"
    [deployment] = [each for each in manifests if each["kind"] == "Deployment"]
    [service] = [each for each in manifests if each["kind"] == "Service"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == get_container()["ports"][0]["name"]


def get_container() -> dict[str, Any]:
    [container] = find("Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def test_a_pod_is_stopped_later_than_its_answers_end() -> None:
    pod = find("Deployment")["spec"]["template"]["spec"]
    [drain] = [int(word.partition("=")[2]) for word in get_container()["args"] if word.startswith("--drain-seconds")]
    assert "time.sleep(5)" in get_container()["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert pod["terminationGracePeriodSeconds"] >= 5 + drain + 10


def test_a_rollout_keeps_every_instance_and_an_eviction_one() -> None:
    spec = find("Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert 1 <= find("PodDisruptionBudget")["spec"]["minAvailable"] < spec["replicas"]


def test_probes_ask_what_they_are_for() -> None:
    container = get_container()
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 60


def test_a_pod_has_no_rights_and_can_write_its_volumes_only() -> None:
    pod, container = find("Deployment")["spec"]["template"]["spec"], get_container()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"]) & set(container["resources"]["limits"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    claims = {each["metadata"]["name"] for each in read_manifests() if each["kind"] == "PersistentVolumeClaim"}
    used = {v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert used == claims


def test_the_job_of_the_first_key_is_a_pod_like_the_others() -> None:
    job = read_yaml(FOLDER / "first-key.yaml")
    kubernetes_validate.validate(job, "1.37", strict=True)
    pod, served = job["spec"]["template"]["spec"], find("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["securityContext"] == get_container()["securityContext"]
    assert pod["securityContext"].items() <= served["securityContext"].items()
    command = argparse.ArgumentParser()
    key_commands.add_commands(command.add_subparsers())
    assert str(command.parse_args(container["args"]).state) == "/var/lib/minigpt"
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert find("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert not find("Service")["spec"]["selector"].items() <= labels.items()  # it gets no requests


def test_the_arguments_are_flags_of_serve() -> None:
    flags = {f"--{name.replace('_', '-')}" for name in ServiceSettings.model_fields}
    command, *arguments = get_container()["args"]
    assert command == "serve"
    assert {word.partition("=")[0] for word in arguments} <= flags


def test_nothing_leaves_the_cluster() -> None:
    policy = find("NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    for rule in policy["egress"]:
        assert rule["to"]
        assert rule["ports"]
        assert all("ipBlock" not in peer for peer in rule["to"])
    assert all(rule["from"] for rule in policy["ingress"])
