from __future__ import annotations

import pytest
import torch

from pipeline.training.peak import get_peak_tflops, look_up_peak, measure_peak

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H200", 989.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA GeForce RTX 4090", 165.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA B200", 2250.0),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_peak_is_looked_up_by_name(name: str, tflops: float | None) -> None:
    assert look_up_peak(name) == tflops


def test_peak_of_an_unknown_device_is_measured() -> None:
    peak, name = get_peak_tflops(CPU)
    assert peak > 0
    assert name == "cpu, its peak measured"


def test_measuring_restores_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    assert measure_peak(CPU, is_bf16=False, n_threads=before + 1) > 0
    assert torch.get_num_threads() == before
