"""End a child of `hourglass up` when its supervisor dies, even after SIGKILL."""

import ctypes
import os
import signal
import sys
from typing import Annotated

import typer

PR_SET_PDEATHSIG = 1

Parent = Annotated[int | None, typer.Option(hidden=True, help="Process id of the supervisor.")]


def end_with_parent(parent: int | None) -> None:
    """Ask the kernel for SIGTERM when the supervisor dies."""
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the supervisor died before the request
        sys.exit(0)
