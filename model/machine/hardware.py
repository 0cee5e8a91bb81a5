"""What this machine can do: is bf16 fast here, and can torch.compile build anything?

In: a device. Out: answers, with the reason where it is no. Looks at the machine when asked, never at import.
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
    """Without matrix instructions for it, bf16 is emulated and slower than fp32 (x86: avx512_bf16 or amx; ARM: bf16)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("arm_bf16") or flags.get("bf16"))


@cache
def find_compiler_problem(device_type: str) -> str | None:
    """Why torch.compile can't work here, or None. On a CPU it needs a C++ compiler with OpenMP and Python's headers; a program
    with both is built to find out (0.3 s), because a compiler that is there but broken would fail in mid-run."""
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
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{compiler} does not run ({error})"
    lines = done.stderr.strip().splitlines()
    if done.returncode == 0:
        return None
    return f"{compiler} can't build a program ({lines[0] if lines else 'no reason given'})"


@cache
def find_kernel_problem() -> str | None:
    """Why model.machine.kernels can't run here, or None."""
    try:
        from model.machine import kernels
    except ImportError as error:
        return f"{error.name} can't be imported"
    return kernels.find_problem()
