"""Compile the kernels of model.machine.kernels and run them on the threads of torch's OpenMP library.

In: a kernel, its sizes and buffers. Out: the buffers filled in place. Using torch's own threads (through GOMP_parallel) avoids a
second thread pool that would compete for the cores.
"""

# pyright: reportCallIssue=false
# (Numba's decorators have no types)
from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from torch import Tensor

from model.machine.kernels import N_ARGUMENTS, OPTIONS

_KEEP: list[Any] = []  # machine code is freed with its object


@cache
def _load_openmp() -> ctypes.CDLL:
    """Load the OpenMP library that is bundled with torch, which torch has already loaded."""
    paths = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    paths += sorted((Path(torch.__file__).parents[1] / "torch.libs").glob("libgomp*.so*"))
    library = ctypes.CDLL(str(paths[0]))
    library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    return library


@cache
def _find_thread_functions() -> tuple[int, int]:
    """Return the addresses of omp_get_thread_num and omp_get_num_threads."""
    names = ("omp_get_thread_num", "omp_get_num_threads")
    first, second = (ctypes.cast(getattr(_load_openmp(), name), ctypes.c_void_p).value for name in names)
    assert first
    assert second
    return first, second


@cache
def find_problem() -> str | None:
    """Return why the kernels can't run here, or None."""
    try:
        _find_thread_functions()
    except (IndexError, OSError, AttributeError, ValueError):
        return "torch does not use GNU OpenMP here"
    return None


@cache
def _compile(kernel: Callable[..., None]) -> int:
    """Compile a kernel, or load it from Numba's cache on disk. Return the address of its machine code."""
    signature = types.void(types.CPointer(types.int64))
    try:
        compiled = numba.cfunc(signature, cache=True, **OPTIONS)(kernel)
    except RuntimeError:  # no writable cache folder: compiling takes four seconds at each start
        compiled = numba.cfunc(signature, **OPTIONS)(kernel)
    _KEEP.append(compiled)
    assert compiled.address is not None
    return compiled.address


def launch(kernel: Callable[..., None], *arguments: int | float | Tensor | None) -> None:
    """Run one kernel on torch's threads; tensors must be contiguous."""
    values = (ctypes.c_int64 * N_ARGUMENTS)(*[0] * (N_ARGUMENTS - 2), *_find_thread_functions())
    assert len(arguments) <= N_ARGUMENTS - 2
    for index, argument in enumerate(arguments):
        if isinstance(argument, Tensor):
            values[index] = argument.data_ptr()
        elif isinstance(argument, float):
            values[index] = int(np.float32(argument).view(np.uint32))
        else:
            values[index] = argument or 0
    _load_openmp().GOMP_parallel(_compile(kernel), ctypes.addressof(values), torch.get_num_threads(), 0)
