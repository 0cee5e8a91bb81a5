"""Terminate child processes together with their parent, even if the parent is killed with SIGKILL (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from pipeline.frame.environment import read

PR_SET_PDEATHSIG = 1


def follow_parent() -> None:
    """Unblock signals and tie this process to the parent that MINIGPT_PARENT names; do nothing if it is unset.

    The parent sets MINIGPT_PARENT=pid and starts this process with its signals blocked. Doing this here instead of in a
    `preexec_fn` runs no Python code between fork and exec, when another thread of the parent may hold a lock forever.
    """
    parent = read("MINIGPT_PARENT")
    os.environ.pop("MINIGPT_PARENT", None)  # children of this process follow this process
    if parent:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        die_with_parent(int(parent))


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` (its parent's pid) ends for whatever reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
