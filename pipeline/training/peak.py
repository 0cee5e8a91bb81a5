"""The peak of a device in matrix products, which the MFU of training is a fraction of.

In: a device. Out: TFLOP/s of dense products: the maker's number for a GPU that is known by name, else what a product reaches here.
Time: 0.1 s on a CPU. Imports torch only when something is measured: a plan for GPUs does not need it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# name → (dense bf16 TFLOP/s, GB) of one
DEVICES = {
    "a100": (312.0, 80.0),
    "b200": (2250.0, 180.0),
    "h100": (989.0, 80.0),
    "h200": (989.0, 141.0),
    "l4": (121.0, 24.0),
    "l40s": (362.0, 48.0),
    "mi300x": (1307.0, 192.0),
    "rtx3090": (71.0, 24.0),
    "rtx4090": (165.0, 24.0),
}
CPU_SIZE, GPU_SIZE = 1024, 8192
ROUNDS = 20


def get_peak_tflops(device: torch.device, *, is_bf16: bool = True, n_threads: int = 0) -> tuple[float, str]:
    """Return TFLOP/s and the name of the device, which notes where the peak was measured."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    known = look_up_peak(name)
    if known is not None:
        return known, name
    return measure_peak(device, is_bf16=is_bf16, n_threads=n_threads), f"{name}, its peak measured"


def look_up_peak(name: str) -> float | None:
    """Look a peak up by the driver's name, such as NVIDIA H100 80GB HBM3; a PCIe or NVL card of that name reaches less."""
    words = name.lower().replace("geforce ", "").replace("rtx ", "rtx").replace("-", " ").split()
    found = [tflops for kind, (tflops, _) in DEVICES.items() if kind in words]
    return None if {"pcie", "nvl"} & set(words) or not found else found[0]


def measure_peak(device: torch.device, *, is_bf16: bool = True, n_threads: int = 0) -> float:
    """Return TFLOP/s of the fastest of some products of two square matrices; on a CPU with `n_threads` threads (0 = as it is)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    size = GPU_SIZE if device.type == "cuda" else CPU_SIZE
    a = torch.ones(size, size, dtype=torch.bfloat16 if is_bf16 else torch.float32, device=device)
    best = float("inf")
    try:
        for _ in range(ROUNDS):
            _wait_for(device)
            started = time.perf_counter()
            torch.mm(a, a)
            _wait_for(device)
            best = min(best, time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / best / 1e12


def _wait_for(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
