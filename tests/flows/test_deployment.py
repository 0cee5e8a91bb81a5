"""prefect.yaml: one nightly run, inactive by default, never two at once."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT, read_yaml


def test_the_nightly_run_is_inactive_and_exclusive() -> None:
    [deployment] = read_yaml(ROOT / "prefect.yaml")["deployments"]
    assert [schedule["active"] for schedule in deployment["schedules"]] == [False]
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


@pytest.mark.slow  # it imports Prefect
def test_it_names_the_flow_and_its_parameters() -> None:
    from flows.retrain import retrain

    [deployment] = read_yaml(ROOT / "prefect.yaml")["deployments"]
    path, _, name = deployment["entrypoint"].partition(":")
    assert (ROOT / path).is_file()
    assert (path, name) == ("flows/retrain.py", retrain.fn.__name__)
    assert deployment["parameters"].keys() <= retrain.parameters.properties.keys()
