"""systemctl of a test host: `enable --now`, `start`, `restart` and `stop` of the units in deploy/systemd, as processes.

``HOST`` names the folder with a ``.pid`` and a ``.log`` of each unit. Run as ``python -m tests.docs.units``.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # no stubs

from tests.deployed import ROOT

END_SECONDS = 40.0


def command_of(unit: str) -> list[str]:
    """What ExecStart of the unit says, run with this interpreter."""
    name, _, instance = unit.removesuffix(".service").partition("@")
    text = (ROOT / "deploy" / "systemd" / f"{name}{'@' if instance else ''}.service").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    _, *arguments = line.removeprefix("ExecStart=").replace("%i", instance).split()
    return [sys.executable, "-m", "app.cli", *arguments]


def start(folder: Path, unit: str) -> None:
    metrics = folder / f"{unit}.metrics"
    metrics.mkdir(exist_ok=True)
    with (folder / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  ourselves
            command_of(unit),
            cwd=ROOT,
            env={**os.environ, "HOURGLASS_METRICS_DIR": str(metrics)},  # noqa: TID251  handed on
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / f"{unit}.pid").write_text(str(process.pid), encoding="utf-8")


def stop(folder: Path, unit: str) -> None:
    """SIGTERM, and wait until the process is gone, or dead and only not yet collected."""
    try:
        process = psutil.Process(int((folder / f"{unit}.pid").read_text(encoding="utf-8")))
        process.terminate()
        end = time.monotonic() + END_SECONDS
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                process.kill()
                raise SystemExit(f"{unit} does not end")
            time.sleep(0.05)
    except (FileNotFoundError, psutil.NoSuchProcess):
        return


def main(verb: str, *arguments: str) -> None:
    folder = Path(os.environ["HOST"])  # noqa: TID251  handed to us
    units = [name for name in arguments if not name.startswith("-")]
    for unit in ["hourglass-worker" if name == "hourglass.target" else name for name in units]:
        if verb in {"stop", "restart"}:
            stop(folder, unit)
        if verb in {"start", "restart", "enable"}:
            start(folder, unit)


if __name__ == "__main__":
    main(*sys.argv[1:])
