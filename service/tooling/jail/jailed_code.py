"""Run Python code from standard input inside the jail: first give up every right, then read the code, then run it.

This file is no part of the service's process. service/tooling/jail/cpython_jail.py passes its text to the system's CPython
(`-I -S -c`), which sandlock has confined already, so it needs the standard library only (of Python 3.9 or later). It adds what
sandlock has no setting for:

- a seccomp filter that allows about a hundred system calls by number and refuses all others, also those of later kernels: there are
  no sockets, no signals to other processes, no changes of owners, modes, times, priorities, limits, clocks or names, no
  namespaces, keyrings, io_uring, bpf, memfd. Threads may be started, processes may not. A call of another architecture kills.
- limits of address space, processor time and core files, and SIGKILL when the service dies.

In: the code, in UTF-8, on standard input; as arguments the megabytes of memory and the seconds of processor time. Out: what it
prints; the value of the last expression, unless it is None, as in an interactive interpreter. The first byte of the output is
CONFINED, written when the rights are given up: where it is missing, nothing has run, and the output is the reason.
"""

from __future__ import annotations

import ast
import ctypes
import linecache
import os
import platform
import resource
import struct
import sys
import traceback
from collections.abc import Sequence
from typing import Any, cast

Step = tuple[int, int, int, int]  # code, jump if true, jump if false, value
FILE = "<code>"
CONFINED = b"\x06"
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_… of linux/audit.h
# Numbers of asm/unistd_64.h and asm-generic/unistd.h; a test compares them with the headers.
ALLOWED: dict[str, tuple[int, int | None]] = {  # name: (x86_64, aarch64)
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "openat": (257, 56), "newfstatat": (262, 79), "fstat": (5, 80),
    "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216),
    "msync": (26, 227), "mincore": (27, 232), "madvise": (28, 233), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "sigaltstack": (131, 132),
    "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlinkat": (267, 78), "getdents64": (217, 61), "statx": (332, 291), "getcwd": (79, 17),
    "pipe2": (293, 59), "dup": (32, 23), "dup3": (292, 24), "close_range": (436, 436), "eventfd2": (290, 19),
    "pselect6": (270, 72), "ppoll": (271, 73), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441), "socketpair": (53, 199), "timerfd_create": (283, 85), "timerfd_settime": (286, 86),
    "timerfd_gettime": (287, 87), "sched_yield": (24, 124), "nanosleep": (35, 101), "clock_nanosleep": (230, 115),
    "gettimeofday": (96, 169), "clock_gettime": (228, 113), "clock_getres": (229, 114), "getitimer": (36, 102),
    "times": (100, 153), "getrusage": (98, 165), "getrlimit": (97, 163), "sysinfo": (99, 179), "uname": (63, 160),
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getpgid": (121, 155), "getsid": (124, 156),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "sched_get_priority_max": (146, 125), "getcpu": (309, 168),
    "sched_get_priority_min": (147, 126), "futex": (202, 98), "futex_waitv": (449, 449), "set_tid_address": (218, 96),
    "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283), "restart_syscall": (219, 128),
    "getrandom": (318, 278), "exit": (60, 93), "exit_group": (231, 94),
    # of x86_64 only
    "open": (2, None), "stat": (4, None), "lstat": (6, None), "access": (21, None), "readlink": (89, None), "getdents": (78, None),
    "pipe": (22, None), "dup2": (33, None), "select": (23, None), "poll": (7, None), "epoll_create": (213, None),
    "epoll_wait": (232, None), "eventfd": (284, None), "getpgrp": (111, None), "arch_prctl": (158, None), "time": (201, None),
}  # fmt: skip
CONDITIONAL = {  # allowed for certain arguments only (make_filter)
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261),
    "sched_getaffinity": (204, 123), "ioctl": (16, 29), "fcntl": (72, 25),
}  # fmt: skip
IOCTLS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONBIO, FIONCLEX, FIOCLEX
FCNTLS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC

_LOAD, _EQUAL, _AT_LEAST, _HAS_BIT, _RETURN = (
    0x20,
    0x15,
    0x35,
    0x45,
    0x06,
)  # BPF_LD|W|ABS, BPF_JMP|JEQ, JGE, JSET (K), BPF_RET
_ALLOW, _REFUSE, _NO_SUCH_CALL, _KILL = (
    0x7FFF0000,
    0x00050001,
    0x00050026,
    0x80000000,
)  # ALLOW, ERRNO|EPERM, ERRNO|ENOSYS, KILL
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; arguments have eight bytes each
_CLONE_THREAD = 0x10000
_X32 = 0x40000000


def make_filter(machine: str, pid: int) -> list[Step]:
    """Return the filter's instructions for one process of an architecture."""
    column = list(ARCHITECTURES).index(machine)
    program: list[Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for numbers in ALLOWED.values():
        if (number := numbers[column]) is not None:
            program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for name, numbers in CONDITIONAL.items():
        branch = _make_branch(name, pid)
        program += [(_EQUAL, 0, len(branch), numbers[column]), *branch]
    return [*program, (_RETURN, 0, 0, _REFUSE)]


def _make_branch(name: str, pid: int) -> list[Step]:
    """Return what decides about one call by its arguments; it always returns."""
    if name == "clone":
        return [_load(0), (_HAS_BIT, 0, 1, _CLONE_THREAD), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    if name == "clone3":  # its flags are behind a pointer; glibc falls back to clone
        return [(_RETURN, 0, 0, _NO_SUCH_CALL)]
    if name in ("kill", "tgkill"):
        return _allow_values(0, (pid,))
    if name == "sched_getaffinity":
        return _allow_values(0, (0, pid))
    if name == "prlimit64":  # reading one's own
        rest = [_load(2), (_EQUAL, 0, 3, 0), _load(2, 4), (_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
        return [_load(0), (_EQUAL, 0, len(rest), 0), *rest, (_RETURN, 0, 0, _REFUSE)]
    return _allow_values(1, IOCTLS if name == "ioctl" else FCNTLS)


def _load(argument: int, offset: int = 0) -> Step:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument + offset)


def _allow_values(argument: int, values: Sequence[int]) -> list[Step]:
    checks = [step for value in values for step in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]
    return [_load(argument), *checks, (_RETURN, 0, 0, _REFUSE)]


def give_up_rights(memory_mb: int, cpu_seconds: int) -> None:
    """Limit this process and install the filter, or exit."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(f"no filter for {machine}")
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory_mb << 20),
    ):
        resource.setrlimit(limit, (value, value))
    instructions = b"".join(struct.pack("HBBI", *step) for step in make_filter(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = ctypes.create_string_buffer(struct.pack("HP", len(instructions) // 8, ctypes.addressof(buffer)))
    for arguments in (
        (1, 9, 0, 0, 0),  # PR_SET_PDEATHSIG, SIGKILL
        (38, 1, 0, 0, 0),  # PR_SET_NO_NEW_PRIVS
        (22, 2, ctypes.addressof(program), 0, 0),  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    ):
        if libc.prctl(arguments[0], *map(ctypes.c_ulong, arguments[1:])) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({arguments[0]})")
    if os.getppid() != parent:
        raise OSError("the service is gone")


def run(code: str) -> int:
    """Run the code. Return the exit code."""
    space: dict[str, Any] = {"__name__": "__main__"}
    linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
    try:
        tree = ast.parse(code, FILE)
        has_value = bool(tree.body) and isinstance(tree.body[-1], ast.Expr)
        last = cast("ast.Expr", tree.body.pop()) if has_value else None
        exec(compile(tree, FILE, "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), FILE, "eval"), space)
            if value is not None:
                print(repr(value))
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        _report(error)
        return 1
    return 0


def _report(error: BaseException) -> None:
    """Print an exception, without this file's own frames."""
    sys.stdout.flush()
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != FILE:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames, file=sys.stdout, limit=10)


def main() -> int:
    """Give up the rights, then run standard input."""
    try:
        code = sys.stdin.buffer.read()
        give_up_rights(int(sys.argv[1]), int(sys.argv[2]))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    os.write(1, CONFINED)
    os.dup2(1, 2)
    cast("Any", sys.stdout).reconfigure(line_buffering=True)  # what was printed before a limit is shown
    sys.set_int_max_str_digits(20_000) if hasattr(sys, "set_int_max_str_digits") else None
    try:
        return run(code.decode("utf-8"))
    except UnicodeDecodeError:
        print("the code is not UTF-8")
        return 1


if __name__ == "__main__":
    status = main()
    try:
        sys.stdout.flush()
    finally:
        os._exit(status)  # threads that the code has left end with it
