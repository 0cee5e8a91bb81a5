"""Look up or measure the peak of a device in dense matrix products, the denominator of the MFU.

In: a device. Out: TFLOP/s: the vendor's number for a known GPU, else the speed measured for a product. Time: 0.1 s on a CPU.
Torch is imported only to measure: a plan for GPUs does not need it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# name → (dense bf16 TFLOP/s, memory in GB)
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
    """Return TFLOP/s and the name of the device, which says so if the peak was measured."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    known = look_up_peak(name)
    if known is not None:
        return known, name
    return measure_peak(device, is_bf16=is_bf16, n_threads=n_threads), f"{name}, its peak measured"


def look_up_peak(name: str) -> float | None:
    """Return the peak for a driver's device name, such as NVIDIA H100 80GB HBM3, or None if it is unknown. PCIe and NVL cards are
    slower than their namesakes and count as unknown."""
    words = name.lower().replace("geforce ", "").replace("rtx ", "rtx").replace("-", " ").split()
    peaks = [tflops for kind, (tflops, _) in DEVICES.items() if kind in words]
    return None if {"pcie", "nvl"} & set(words) or not peaks else peaks[0]


def measure_peak(device: torch.device, *, is_bf16: bool = True, n_threads: int = 0) -> float:
    """Return TFLOP/s of the fastest of `ROUNDS` products of two square matrices, on a CPU with `n_threads` threads (0 =
    unchanged)."""
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
    """Wait until a GPU has finished; do nothing on a CPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
