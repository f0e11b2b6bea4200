"""Build the Go service, from the packages of the distribution alone."""

import shutil
import subprocess
from pathlib import Path

from app.lab.bench.failures import Skipped
from app.settings.settings import environment

SOURCES = Path(__file__).parent
PACKAGES = Path("/usr/share/gocode")
"""Debian's Go libraries, laid out as a GOPATH."""
REDIGO = Path("src/github.com/gomodule/redigo/redis")
INSTALL = "on Debian: apt-get install golang-go golang-github-gomodule-redigo-dev"
OFFLINE = {
    "GO111MODULE": "off",  # packages come from GOPATH and are never downloaded
    "GOPROXY": "off",
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "",
}


def build(folder: Path, *, packages: Path = PACKAGES) -> Path:
    """The built program.

    Raises:
        Skipped: Go or redigo is not installed, or the compiler refuses the sources.
    """
    go = shutil.which("go")
    if go is None:
        raise Skipped(f"Go is not installed; {INSTALL}")
    if not (packages / REDIGO).is_dir():
        raise Skipped(f"redigo is not in {packages}; {INSTALL}")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "go_service"
    variables = {"GOCACHE": str(folder / "cache")} if "HOME" not in environment() else {}
    ended = subprocess.run(  # noqa: S603  our own sources
        [go, "build", "-o", str(program), "."],
        cwd=SOURCES,
        env={**environment(), **variables, **OFFLINE, "GOPATH": str(packages)},
        check=False,
        capture_output=True,
        text=True,
    )
    if ended.returncode != 0:
        raise Skipped(f"the Go service cannot be built: {ended.stderr.strip()}")
    return program
