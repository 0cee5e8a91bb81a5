"""Find out what this machine supports: fast bf16, torch.compile, the CPU kernels.

In: a device. Out: yes, or the reason why not. The machine is inspected on each call, never at import.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

import torch

_PROGRAM = (
    "#include <Python.h>\n#include <omp.h>\n#include <vector>\nint main() { return omp_get_max_threads() < 0; }\n"
)


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the device has matrix instructions for bf16 (x86: avx512_bf16 or amx; ARM: bf16); without them, bf16 is
    emulated and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("arm_bf16") or flags.get("bf16"))


@cache
def find_compiler_problem(device_type: str) -> str | None:
    """Return why torch.compile can't work here, or None. On a CPU it needs a C++ compiler with OpenMP and Python's headers; a
    program that uses both is compiled to find out (0.3 s), because a broken compiler would fail in the middle of a run."""
    if device_type == "cuda":
        if importlib.util.find_spec("triton") is None:
            return "the package triton is not installed"
        return None if shutil.which(os.environ.get("CC", "gcc")) or shutil.which("clang") else "no C compiler was found"
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        return "no C++ compiler was found"
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        return f"Python's headers are missing ({headers / 'Python.h'})"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(_PROGRAM)
        command = [compiler, "-fopenmp", f"-I{headers}", str(source), "-fsyntax-only"]
        try:
            completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{compiler} can't be run ({error})"
    lines = completed.stderr.strip().splitlines()
    if completed.returncode == 0:
        return None
    return f"{compiler} can't compile a program ({lines[0] if lines else 'no reason given'})"


@cache
def find_kernel_problem() -> str | None:
    """Return why model.machine.kernels can't run here, or None."""
    try:
        from model.machine import openmp
    except ImportError as error:
        return f"{error.name} can't be imported"
    return openmp.find_problem()
