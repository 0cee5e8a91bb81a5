"""The container: what is in it, what its files say, checked by the tools that are made for them."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT, read_yaml

PACKAGES = ROOT / "deploy" / "container" / "packages.txt"
NOT_IN_THE_CONTAINER = {  # what the service can do without, and says so where somebody asks for it; nor MLflow: traces go by OTLP
    "torch": "a GPU",
    "jaxtyping": "only where torch is",
    "faiss-cpu": "more than half a million sections",
    "pymilvus": "a Milvus server",
}
BY_NAME = {"psycopg", "psycopg-binary"}  # imported by SQLAlchemy, by the database's URL
SHARED = {  # modules that several distributions make together
    "opentelemetry": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "pydantic_monty": ("pydantic-monty",),
    "ruamel": ("ruamel-yaml",),
    "mlflow": (),
}


def read_packages() -> list[str]:
    return [line for line in PACKAGES.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


@cache
def list_imported_distributions() -> frozenset[str]:
    """Return the distributions that the service and what it stands on import, anywhere."""
    graph = grimp.build_graph("service", "assistant", "model", "pipeline", include_external_packages=True)
    modules = {name for name in graph.modules if name.split(".")[0] in ("service", "assistant")}
    seen: set[str] = set()
    while modules - seen:
        name = (modules - seen).pop()
        seen.add(name)
        modules |= graph.find_modules_directly_imported_by(name) if name.partition(".")[0] in OURS else set()
    known = packages_distributions()
    external = {name for name in modules if name.partition(".")[0] not in OURS}
    found: set[str] = set()
    for name in external - set(sys.stdlib_module_names):
        made_by = SHARED.get(name, known.get(name, ()))
        assert len(made_by) <= 2, (name, made_by)
        found |= set(map(canonicalize_name, made_by))
    return frozenset(found)


OURS = {"service", "assistant", "model", "pipeline"}


def add_requirements(names: set[str]) -> set[str]:
    """Return packages with everything that they require on this machine."""
    found: set[str] = set()
    while names - found:
        name = (names - found).pop()
        found.add(name)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, requires):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names = names | {canonicalize_name(requirement.name)}
    return found


def test_the_container_has_what_the_service_imports_and_nothing_else() -> None:
    needed = add_requirements((set(list_imported_distributions()) - set(NOT_IN_THE_CONTAINER)) | BY_NAME)
    assert sorted(needed) == read_packages(), "write these into deploy/container/packages.txt"


def test_its_lock_has_every_package_with_hashes_at_the_locks_versions() -> None:
    command = [sys.executable, "deploy/container/select_packages.py", str(PACKAGES)]
    locks = ["requirements.lock", "requirements-test.lock"]
    result = subprocess.run([*command, *locks], cwd=ROOT, capture_output=True, text=True, check=True)
    entries = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", result.stdout, re.MULTILINE))
    assert sorted(entries) == read_packages()
    for block in re.split(r"\n(?=[a-z])", result.stdout):
        assert "--hash=sha256:" in block, block
    known = "".join((ROOT / lock).read_text(encoding="utf-8") for lock in locks)
    assert all(f"{name}=={version}" in known for name, version in entries.items())


def test_a_package_that_no_lock_has_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "packages.txt").write_text("# a comment\nnumpy\nleftpad\n")
    command = [
        sys.executable,
        "deploy/container/select_packages.py",
        str(tmp_path / "packages.txt"),
        "requirements.lock",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "found leftpad; correct it" in result.stderr


def test_hadolint_finds_nothing() -> None:
    tool = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([tool, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def read_stages() -> list[str]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]


def test_the_image_runs_as_nobody_and_compiles_nothing() -> None:
    _, last = read_stages()
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "pip" not in last.replace("pipeline", "")
    assert re.search(r"^HEALTHCHECK .*\n    CMD \[", last, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", last, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["python", "-m", "service"\]$', last, re.MULTILINE)
    assert not re.search(r"^(ADD|ENV .*(KEY|TOKEN|PASSWORD))", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_what_is_copied_is_not_ignored_and_nothing_else_is_sent() -> None:
    copied = {
        word
        for stage in read_stages()
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", stage, re.MULTILINE)
        for word in line.split()
    }
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert all(any(path == each or path.startswith(f"{each}/") for each in allowed) for path in copied)
    assert all((ROOT / path).exists() for path in copied | allowed)
    assert not {"var", "data", ".git", "scratch"} & allowed


COMPOSE = read_yaml(ROOT / "compose.yaml")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_composed_service_is_bounded_and_restarted(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    for volume in service.get("volumes", []):
        assert volume["type"] in ("volume", "bind")
        assert volume["type"] == "bind" or volume["source"] in COMPOSE["volumes"]
        assert volume["type"] == "volume" or volume["read_only"]
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert "latest" not in service["image"]


def test_the_composed_service_can_write_its_volumes_only() -> None:
    service = COMPOSE["services"]["minigpt"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert {volume["target"] for volume in service["volumes"]} == {
        "/var/lib/minigpt",
        "/var/cache/minigpt",
        "/models/champion",
    }
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert int(service["stop_grace_period"].rstrip("s")) > 30


def test_the_stores_reach_no_network_and_have_no_port() -> None:
    for name in ("postgres", "valkey"):
        service = COMPOSE["services"][name]
        assert all(COMPOSE["networks"][network]["internal"] for network in service["networks"])
        assert "ports" not in service
