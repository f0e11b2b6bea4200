"""Description of the machine of a run, which its figures depend on."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from app import __version__
from app.lab.bench.load import program

SAMPLE_SECONDS = 1.0
MIN_SHARE = 0.02
MAX_NAMED = 5
LIBRARIES = ("uvicorn", "uvloop", "httptools", "redis", "hiredis", "msgspec", "asyncpg", "sqlalchemy", "fastapi")


def facts() -> dict[str, object]:
    """Processors, memory, and versions of the software in this process."""
    return {
        "cpus": psutil.cpu_count(),
        "cpu": _cpu_model(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": {
            "hourglass": __version__,
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
            "wrk": _wrk_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
    }


def state() -> dict[str, object]:
    """What else the machine does before a run: its load, and the CPU time of other programs within a second.

    Shares are those of one processor. Programs appear by name, without their arguments.
    """
    before = _used_by_program()
    busy_before, began = psutil.cpu_times(), time.monotonic()
    time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - began
    used = _used_by_program()
    used.subtract(before)
    busy = psutil.cpu_times()
    idle = (busy.idle + busy.iowait) - (busy_before.idle + busy_before.iowait)
    shares = {name: round(cpu_seconds / seconds, 2) for name, cpu_seconds in used.most_common(MAX_NAMED)}
    return {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "busy_processors": round(max(0.0, (psutil.cpu_count() or 1) - idle / seconds), 2),
        "programs": {name: share for name, share in shares.items() if share >= MIN_SHARE},
    }


def _used_by_program() -> "Counter[str]":
    """CPU seconds so far of all other running processes, by the name of their program."""
    used: Counter[str] = Counter()
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            program = str(process.info["name"]).partition("/")[0]  # threads of the kernel also tell what they do
            used[program] += times.user + times.system
    return used


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def _wrk_version() -> str:
    shown = subprocess.run([program(), "-v"], check=False, capture_output=True, text=True)  # noqa: S603  no input
    return (shown.stdout + shown.stderr).partition(" [")[0].strip()
