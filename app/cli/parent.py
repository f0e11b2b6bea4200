"""What a child of `hourglass up` does about its parent: end with it, in order, even when it is killed."""

import ctypes
import os
import signal
import sys
from typing import Annotated

import typer

PR_SET_PDEATHSIG = 1

Parent = Annotated[int | None, typer.Option(hidden=True, help="Process id of the supervisor.")]


def end_with(parent: int | None) -> None:
    """Have the kernel send us SIGTERM when the supervisor dies, however it dies."""
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before we had asked
        sys.exit(0)
