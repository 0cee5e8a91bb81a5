"""End child processes together with their parent, also if the parent is killed with SIGKILL (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def follow_parent() -> None:
    """Unblock signals and tie this process to the parent that MINIGPT_PARENT names.

    The parent sets MINIGPT_PARENT=pid and starts this process with its signals blocked. Doing this here instead of in a
    `preexec_fn` keeps all code out of the time between fork and exec, when another thread may hold a lock forever.
    """
    parent = os.environ.pop("MINIGPT_PARENT", "")
    if parent:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        die_with_parent(int(parent))


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` (its parent's pid) ends for whatever reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
