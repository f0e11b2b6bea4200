"""Description of the machine of a run, which its figures depend on."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from app import __version__
from app.lab.bench.load import program

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
